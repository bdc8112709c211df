"""Try every fault, and print what came of each: `python -m torture`. Exit code 1 where anything was lost or differs."""

import argparse
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

FAMILIES = (
    "kills", "points", "stops", "damage", "disk", "raw", "workers", "clock", "surroundings", "repro", "server",
    "machines",
)  # fmt: skip
console = Console(highlight=False)


def main() -> int:
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))  # and leave no process and no folder behind
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="torture-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # before torch; the same bytes, sooner where cores are shared
    for module in sorted(Path("flows").glob("[a-z]*.py")):
        if "main(stage" in module.read_text():
            import_module(f"flows.{module.stem}")
    from torture.bench import Bench  # what it imports comes after the choice of numerics

    bench = Bench(folder, arguments.kills, arguments.seed)
    console.print(f"in {folder}, {arguments.kills} kills a stage, seed {arguments.seed}")
    table = Table("family", "fault", "tried", "survived", "bytes differ in", "seconds")
    good = True
    try:
        bench.build()
        os.chdir(bench.reference.folder)
        for family in arguments.only or FAMILIES:
            began = time.monotonic()
            for fault in import_module(f"torture.{family}").faults(bench):
                took, began = time.monotonic() - began, time.monotonic()
                good &= fault.passed
                row = [family, fault.name, *map(str, (fault.tried, fault.survived, fault.differing)), f"{took:.0f}"]
                table.add_row(*row, style=None if fault.passed else "bold red")
                console.print("  ".join(row), style=None if fault.passed else "bold red", soft_wrap=True, markup=False)
                for note in fault.notes:
                    console.print(f"    {note}", soft_wrap=True, markup=False)
    finally:
        os.chdir("/")
        if not arguments.folder:
            shutil.rmtree(folder, ignore_errors=True)
    console.print(table)
    return int(not good)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m torture",
        description=__doc__,
        epilog="examples:\n  python -m torture --kills 5\n  python -m torture --only damage --folder /data/torture",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=FAMILIES, metavar="FAMILY", help=f"of {', '.join(FAMILIES)}")
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs of each stage in `kills` (100)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of moments and places (drawn)")
    parser.add_argument("--folder", help="keep the undisturbed result there, for the next run of this revision")
    return parser


if __name__ == "__main__":
    sys.exit(main())
