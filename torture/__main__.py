"""Try every fault, as many at once as there are cores, and print what came of each: `python -m torture`.

Exit code 1 where anything was lost or differs.
"""

import argparse
import multiprocessing
import os
import random
import resource
import secrets
import shutil
import signal
import sys
import tempfile
import time
import traceback
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from importlib import import_module
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from torture.bench import Bench, Fault
from torture.project import ROOT, Project

FAMILIES = (
    "surroundings", "machines", "repro", "server", "kills", "points", "stops", "damage", "disk", "raw", "workers",
    "clock", "gpu",
)  # fmt: skip
"""What takes longest comes first, so that no core is left with it at the end."""
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
Row = tuple[str, str]
"""A family, and the name of a fault."""


def main() -> int:
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))  # and leave no process and no folder behind
    began, rows = time.monotonic(), dict[Row, tuple[Fault, float]]()
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="torture-")).absolute()
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # before torch; the same bytes, sooner where cores are shared
    reference = Project(folder / "reference", folder / "home")
    bench = Bench(reference, kills=arguments.kills, every_point=arguments.every_point, seed=arguments.seed)
    console.print(f"in {folder}, {bench.kills} kills a stage, {arguments.jobs} at once, seed {bench.seed}")
    try:
        if arguments.only != ["gpu"]:  # which brings its own, for machines without DVC
            bench.build()
            console.print(f"the undisturbed run took {time.monotonic() - began:.0f} s")
            _warm(bench)
        _try_all(bench, arguments.only or FAMILIES, arguments.jobs, rows)
    finally:
        os.chdir("/")
        if not arguments.folder:
            shutil.rmtree(folder, ignore_errors=True)
        console.print(_table(rows))
        console.print(f"in {(time.monotonic() - began) / 60:.0f} minutes, the undisturbed run with it")
    return int(any(fault.verdict == "FAILED" for fault, _ in rows.values()))


def _warm(bench: Bench) -> None:
    """Import all that a stage needs, with the threads and instructions of the undisturbed run's parameters."""
    os.chdir(bench.reference.folder)
    for module in sorted((ROOT / "flows").glob("[a-z]*.py")):
        if "main(stage" in module.read_text():
            import_module(f"flows.{module.stem}")
    for name in ("dvc.cli", "dvc.commands.status", "dvc.repo"):
        import_module(name)


def _try_all(bench: Bench, families: tuple[str, ...], jobs: int, rows: dict[Row, tuple[Fault, float]]) -> None:
    """Every try in a process forked from this one; what came of each joins its row as it comes."""
    asked = [
        (family, number, name)
        for family in families
        for number, (name, _) in enumerate(import_module(f"torture.{family}").tries())
    ]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        came: dict[Future[tuple[Fault, float]], Row] = {}
        try:
            for family, number, name in asked:
                came[pool.submit(_try, bench, family, number)] = family, name
            for future in as_completed(came):
                row = came[future]
                try:
                    fault, took = future.result()
                except Exception as error:  # its process was killed
                    fault, took = Fault(name=row[1]), 0.0
                    fault.add(False, note=f"{type(error).__name__}: {error}")
                _tell(row[0], fault, took)
                whole, so_far = rows.setdefault(row, (Fault(name=row[1]), 0.0))
                whole.join(fault)
                rows[row] = whole, so_far + took
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            _end_children()
            raise


def _try(bench: Bench, family: str, number: int) -> tuple[Fault, float]:
    """One try of a family, by its number, and its processor time; where it raises, that is what is told of it."""
    began = _processor_time()
    name, attempt = list(import_module(f"torture.{family}").tries())[number]
    fault, bench.chance = Fault(name=name), random.Random(f"{bench.seed} {family} {number}")
    try:
        attempt(bench, fault)
    except Exception:
        fault.add(False, note=traceback.format_exc())
    except SystemExit:
        os._exit(130)  # the pool would have it try another
    return fault, _processor_time() - began


def _processor_time() -> float:
    """Of this process and those that it has waited for: as much beside other work as without."""
    return sum(
        u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _end_children() -> None:
    """Told to end, those that try clean up; what is still there then is killed."""
    tried = psutil.Process().children()
    for child in tried:
        child.terminate()
    psutil.wait_procs(tried, timeout=30)
    for child in psutil.Process().children(recursive=True):
        child.kill()


def _style(fault: Fault) -> str:
    return {"passed": "", "FAILED": "bold red"}.get(fault.verdict, "yellow")


def _tell(family: str, fault: Fault, took: float) -> None:
    words = f"{family}  {fault.name}  {fault.tried} tried  {fault.survived} survived  {fault.differing} bytes differ"
    console.print(
        f"{words}  {took:.0f} s of a core  {fault.verdict}", style=_style(fault), soft_wrap=True, markup=False
    )
    for note in fault.notes:
        console.print(f"    {note}", soft_wrap=True, markup=False)


def _table(rows: dict[Row, tuple[Fault, float]]) -> Table:
    table, total = Table(show_footer=True), Fault(name="together")
    for fault, _ in rows.values():
        total.join(fault)
    failed = sum(fault.verdict == "FAILED" for fault, _ in rows.values())
    footers = [
        "together",
        "",
        str(total.tried),
        str(total.survived),
        str(total.differing),
        f"{sum(took for _, took in rows.values()):.0f}",
    ]
    headings = ["family", "fault", "tried", "survived", "bytes differing", "seconds of a core"]
    for heading, footer in zip(headings, footers, strict=True):
        table.add_column(heading, footer)
    table.add_column("", f"{failed} FAILED" if failed else "passed" if total.tried else "nothing tried")
    for (family, name), (fault, seconds) in rows.items():
        counts = str(fault.tried), str(fault.survived), str(fault.differing)
        table.add_row(family, name, *counts, f"{seconds:.0f}", fault.verdict, style=_style(fault))
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m torture",
        description=__doc__,
        epilog="examples:\n  python -m torture --kills 5\n  python -m torture --only damage --folder /data/torture",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=FAMILIES, metavar="FAMILY", help=f"of {', '.join(FAMILIES)}")
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs of each stage in `kills` (100)")
    parser.add_argument("--every-point", action="store_true", help="`points`: not only the first of each file and kind")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="tries at once (the number of cores)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of moments and places (drawn)")
    parser.add_argument("--folder", help="keep the undisturbed result there, for the next run of this revision")
    return parser


if __name__ == "__main__":
    sys.exit(main())
