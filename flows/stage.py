"""Run one stage: iterate its records, show them, and turn what a user can mend into one line and exit code 1."""

import argparse
import fcntl
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

from flows.cluster import DASK, helped
from flows.console import told
from flows.inputs import declaration
from flows.memory import UNIT, out_of_memory, which_fits
from flows.record import device, record
from flows.references import check
from flows.several import STARTED, end_with, processes, tell, together
from ldm.config import load, lookup
from ldm.files import MANIFEST, check_whole, no_space, read_json
from ldm.progress import Progress

Stage = Callable[[str], Iterator[Progress]]
PLAIN = "FLOWS_PLAIN"
"""Environment variable that has every stage of a `dvc repro` run without Prefect."""
UNREADABLE = re.compile("corrupt or truncated|not a picture")
"""How a picture is refused; of a raw one the line says which."""
ROOT = Path(__file__).resolve().parents[1]


def main(stage: Stage, table: str | None = None, *, shared: bool = False) -> None:
    """The command line of a stage whose names are the keys of the dotted `table` in params.yaml.

    One that can be `shared` by several processes is started as many times as LDM_PROCESSES says.
    """
    stage_name = stage.__globals__["__spec__"].name.rpartition(".")[2]
    arguments = _parser(stage, stage_name, table).parse_args()
    name = arguments.name if table else stage_name
    stop.listen()
    if STARTED in os.environ:
        tell(lambda: stage(name), partial(_reason, stage_name), stop.here)
        return
    if cluster := os.environ.get(DASK):
        stage = helped(stage, stage_name, cluster)
    sys.exit(run(stage, stage_name, name, plain=arguments.plain or bool(os.environ.get(PLAIN)), shared=shared))


def run(stage: Stage, stage_name: str, name: str, *, plain: bool, shared: bool = False) -> int:
    """Run `stage` of `name` to its end; its exit code: 0, 1 with one line on stderr, or 130 where it was stopped.

    What is not the user's to mend keeps its traceback. Under torchrun the first process is as one alone, and the others
    only compute.
    """
    label = stage_name if name == stage_name else f"{stage_name} {name}"
    rank = os.environ.get("RANK", "0")
    if "RANK" in os.environ:
        end_with(os.getppid())
    started = time.monotonic()
    first = last = None

    def records() -> Iterator[Progress]:
        nonlocal first, last
        stop.again()
        count = processes() if shared and "RANK" not in os.environ else 1
        try:
            with closing(together(stage_name, name, count) if count > 1 else stage(name)) as given:  # type: ignore[type-var]
                for last in told(label, given):
                    first = first or last
                    yield last
                    stop.here()
        except Exception as error:
            if not out_of_memory(error):
                if not mendable(error) or UNREADABLE.search(str(error)):
                    check_inputs(stage_name, name)
                raise
            if "RANK" in os.environ:
                raise ValueError(_reason(stage_name, error)) from None
            raise ValueError(which_fits(stage_name, name, error)) from None

    try:
        check([(stage_name, name)])
        if rank != "0":
            label = f"{label}, process {int(rank) + 1}"
            for _ in stage(name):
                pass
            return 0
        with alone(stage_name, name):
            if plain:
                for _ in records():
                    pass
            else:
                from flows import show  # here, so that --plain needs no Prefect

                again = f"dvc repro {label.replace(' ', '@')}"
                show.in_prefect(stage_name, label, records(), explain, again=again, device=device(stage_name))
        units = last.done - first.done if first and last else 0
        record(stage_name, name, time.monotonic() - started, units, last.unit if last else "")
    except KeyboardInterrupt:
        print(f"{label}: stopped; the same command goes on from the last saved state", file=sys.stderr)
        return 130
    except Exception as error:
        if not mendable(error):
            raise
        print(f"{label}: {explain(error)}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def alone(stage_name: str, name: str) -> Iterator[None]:
    """Refuse to run what another process runs in this folder: each would clear the other's files away.

    A `dvc repro` that was killed, but not its stage, leaves such a process behind.
    """
    path = Path(".resume", stage_name, f"{name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when the process ends
        except BlockingIOError:
            lock.seek(0)
            process = lock.read()
            raise ValueError(f"it runs here already; wait for it, or end it first: kill {process}") from None
        lock.truncate(0)
        print(os.getpid(), end="", file=lock, flush=True)
        yield


def check_inputs(stage_name: str, name: str) -> None:
    """Raises ValueError at a file that the stage reads and that is not as it was written: bits flip on disks.

    Asked where a library stumbled, for not every room reads each of its files by its hash.
    """
    for dep in declaration(stage_name, name).get("deps", []):
        for manifest in sorted(Path(dep).rglob(MANIFEST)):
            check_whole(manifest.parent, [manifest.parent / file for file in read_json(manifest)])


def mendable(error: BaseException) -> bool:
    """Whether this is the user's to mend: what the library refuses, or the system (a full disk, no permission).

    A ValueError from inside another library is a bug of ours, for we let it through unexplained.
    """
    if isinstance(error, OSError) or no_space(error, Path.cwd()):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    raised_in = Path(frames[-1].filename).resolve() if frames else ROOT
    ours = any(raised_in.is_relative_to(ROOT / package) for package in ("ldm", "flows"))
    return isinstance(error, ValueError) and ours


def explain(error: BaseException) -> str:
    """The error as one line."""
    if no_space(error, Path.cwd()):
        place = getattr(error, "filename", None) or Path.cwd()
        return f"disk full: no space left for {place}; make some and run the same command, nothing finished is lost"
    if isinstance(error, KeyboardInterrupt):
        return "stopped; the same command goes on from the last saved state"
    text = " ".join(str(error).split())
    return text if mendable(error) else f"{type(error).__name__}: {text}"


class Stop:
    """SIGTERM and Ctrl-C end a stage at its next record, where a training keeps what it did; a second one at once.

    At once also where no record comes within `patience` seconds.
    """

    def __init__(self, patience: float = 10.0) -> None:
        self._patience, self._asked, self._listens = patience, False, False

    def listen(self) -> None:
        """From now on, in the main thread."""
        self._listens = True
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)
        signal.signal(signal.SIGALRM, self._now)

    def again(self) -> None:
        """Where it listened before: Prefect, once it runs a flow, has its own way with SIGTERM."""
        if self._listens:
            self.listen()

    def here(self) -> None:
        if self._asked:
            self._now()

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        if self._asked:
            self._now()
        self._asked = True
        signal.setitimer(signal.ITIMER_REAL, self._patience)

    def _now(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise KeyboardInterrupt


stop = Stop()


def _reason(stage_name: str, error: BaseException) -> str | None:
    """Of a process among several, what is the user's to mend."""
    if out_of_memory(error):
        training = "raise train.micro_batches or lower train.batch; either gives another result"
        return f"out of GPU memory: {training if stage_name in UNIT else 'lower batch, which gives another result'}"
    return explain(error) if mendable(error) else None


def _parser(stage: Stage, stage_name: str, table: str | None) -> argparse.ArgumentParser:
    names = _names(table) if table else []
    example = f"python -m flows.{stage_name}" + (f" {names[0]}" if names else "")
    there = f"\nnames in params.yaml: {', '.join(names)}\n" if names else ""
    parser = argparse.ArgumentParser(
        prog=f"python -m flows.{stage_name}",
        description=stage.__globals__["__doc__"],
        epilog=f"example: {example}\n{there}\n`dvc repro` runs it where it is stale.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if table:
        parser.add_argument("name", metavar="NAME", help=f"a name in `{table}` of params.yaml")
    parser.add_argument("--plain", action="store_true", help=f"a line of progress only, without Prefect; {PLAIN}=1 too")
    return parser


def _names(table: str) -> list[str]:
    try:
        return [str(name) for name in lookup(load(), table)]
    except (ValueError, TypeError):
        return []  # the stage reads params.yaml again and says what is wrong
