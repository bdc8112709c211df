"""Free disk space: states of interrupted stages, half-written files, what this checkout does not use of DVC's cache.

Data, models and results stay as they are. It says what would go and asks first.
"""

import argparse
import fcntl
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from flows.graph import Cache
from flows.plan import size
from flows.rehearsal import size_of
from flows.stage import explain, mendable

RESUME = Path(".resume")
WRITTEN = ("data/prepared", "data/latents", "models", "samples", "metrics", "studies", "report", ".logs")
"""Where stages write; what lies in data/raw and data/weights is not ours."""

CACHE = "unused DVC cache"


@dataclass(frozen=True)
class Waste:
    what: str
    paths: list[Path]
    consequence: str

    @property
    def bytes(self) -> int:
        return sum(map(size_of, self.paths))


def states() -> list[Path]:
    """Folders of what interrupted stages would go on from."""
    return sorted(path for path in RESUME.glob("*/*") if path.is_dir())


def half_written() -> list[Path]:
    """Files of processes that are no more; a file of one that runs becomes whole in a moment."""
    found = (path for place in WRITTEN for path in Path(place).rglob(".*.part"))
    return sorted(path for path in (*found, *Path().glob(".*.part")) if not _written_now(path))


def _written_now(path: Path) -> bool:
    process = path.suffixes[-2][1:] if len(path.suffixes) > 1 else ""
    return process.isdecimal() and psutil.pid_exists(int(process))


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Hold the locks of all stages that ever ran here. ValueError names one that does, and its process."""
    with ExitStack() as held:
        for path in sorted(RESUME.glob("*/*.lock")):
            lock = held.enter_context(path.open("r+"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                where = f"{path.parent.name}@{path.stem}"
                raise ValueError(f"{where} runs here (process {lock.read()}); wait for it, or end it first") from None
        yield


def found(cache: Cache | None) -> list[Waste]:
    """What there is of each kind; `cache` is None where it is to be kept."""
    kinds = [
        Waste("interrupted stages", states(), "they begin anew"),
        Waste("half-written files", half_written(), "nobody reads them"),
    ]
    if cache:
        gone = "other commits, branches and experiments can no longer be checked out, but rebuilt"
        kinds.append(Waste(CACHE, cache.unused(), gone))
    return [waste for waste in kinds if waste.paths]


def clean(kinds: Sequence[Waste], cache: Cache | None) -> None:
    """Remove what was shown; of the cache what is still unused now."""
    for path in (path for kind in kinds if kind.what != CACHE for path in kind.paths):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if cache:
        cache.collect()


def main() -> int:
    arguments = _parser().parse_args()
    try:
        with nothing_runs():
            return _ask_and_clean(arguments.yes, arguments.keep_cache)
    except KeyboardInterrupt:
        print("clean: stopped; nothing more is removed", file=sys.stderr)
        return 130
    except EOFError:
        print("\nclean: nobody answers, so nothing is removed; --yes removes it without asking", file=sys.stderr)
        return 1
    except Exception as error:
        if not mendable(error):
            raise
        print(f"clean: {explain(error)}", file=sys.stderr)
        return 1


def _ask_and_clean(yes: bool, keep_cache: bool) -> int:
    console = Console(highlight=False)
    cache = None if keep_cache else Cache()
    if cache and cache.shared:
        console.print(f"DVC's cache is shared, and stays as it is: {cache.folder}", soft_wrap=True, markup=False)
        cache = None
    waste = found(cache)
    if not waste:
        console.print("nothing to remove")
        return 0
    console.print(_table(waste))
    freed = size(sum(kind.bytes for kind in waste))
    if not yes and input(f"Remove them, {freed}? [y/N] ").strip().lower() not in ("y", "yes"):
        console.print("nothing is removed")
        return 1
    clean(waste, cache)
    console.print(f"removed: {freed}")
    return 0


def _table(kinds: Sequence[Waste]) -> Table:
    table = Table("what", "files", "bytes", "without it")
    for kind in kinds:
        table.add_row(kind.what, f"{len(kind.paths):,}", size(kind.bytes), kind.consequence)
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.clean",
        description=__doc__,
        epilog="""examples:
  python -m flows.clean                 say what would be freed, and ask
  python -m flows.clean --yes           without asking
  python -m flows.clean --keep-cache    leave DVC's cache, with what other commits need""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--yes", action="store_true", help="remove without asking")
    parser.add_argument("--keep-cache", action="store_true", help="remove nothing of DVC's cache")
    return parser


if __name__ == "__main__":
    sys.exit(main())
