"""SIGKILL wherever a stage touches the disk: at each opening for writing, fsync, rename and removal; in mid-write."""

import os
import re
import resource
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ldm import files
from torture.bench import STAGES, Bench, Fault, Try
from torture.process import run

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}
"""That Python tells an audit hook before they happen; os.replace is a rename to it."""


def tries() -> Iterator[Try]:
    for stage in STAGES:
        yield "SIGKILL at each open, fsync, rename and removal", partial(_at_points, stage=stage)
        yield "ended in the middle of each write", partial(_in_writes, stage=stage)


def _at_points(bench: Bench, fault: Fault, stage: str) -> None:
    """Once at what happens to a file the first time, unless every point is asked for."""
    with bench.copy(fault) as project:
        notes = project.folder.with_name("points")
        bench.clear(project, stage)
        run(project.folder, stage, STAGES[stage], first=partial(_told, partial(_note, notes)))
        times = Counter[str]()
        for point in notes.read_text().splitlines():
            times[point] += 1
            if times[point] > 1 and not bench.every_point:
                continue
            bench.clear(project, stage)
            ended = run(project.folder, stage, STAGES[stage], first=partial(_told, _killer(point, times[point])))
            reached = ended.code == -signal.SIGKILL
            bench.finish(fault, project, stage, reached, f"killed at {point} ({times[point]}), {ended.code}")


def _in_writes(bench: Bench, fault: Fault, stage: str) -> None:
    """The system ends the process in the write that would make a file larger than half, in whatever library."""
    with bench.copy(fault) as project:
        notes = project.folder.with_name("sizes")
        bench.clear(project, stage)
        run(project.folder, stage, STAGES[stage], first=partial(_around_writes, partial(_noted, notes)))
        sizes = dict(line.split(" ", 1)[::-1] for line in notes.read_text().splitlines())
        for path, size in sizes.items():
            if int(size) < 2:
                continue
            bench.clear(project, stage)
            half = int(size) // 2
            ended = run(project.folder, stage, STAGES[stage], first=partial(_around_writes, partial(_cut, path, half)))
            cut = ended.code == -signal.SIGXFSZ  # safetensors asks for all the room at once, and is ended there
            bench.finish(fault, project, stage, cut, f"{path} cut at {half} bytes, {ended.code}: {ended.last}")


def _around_writes(around: Callable[[Path, Path], AbstractContextManager[None]]) -> None:
    """Have `around(path, beside)` entered while any file is written that appears whole, in this process from now on."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python would have it an error
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    original = files.whole

    @contextmanager
    def whole(path: Path) -> Iterator[Path]:
        with original(path) as beside, around(path, beside):
            yield beside

    for module in list(sys.modules.values()):  # that have it by this name already
        if getattr(module, "__dict__", {}).get("whole") is original:
            module.whole = whole  # type: ignore[attr-defined]


@contextmanager
def _noted(notes: Path, path: Path, beside: Path) -> Iterator[None]:
    yield
    _note(notes, f"{beside.stat().st_size} {path}")


@contextmanager
def _cut(target: str, size: int, path: Path, beside: Path) -> Iterator[None]:
    if str(path) == target:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    yield


def _told(hit: Callable[[str], None]) -> None:
    """Have `hit` called before each point, in this process from now on."""
    root, fsync = Path.cwd(), os.fsync

    def tell(event: str, place: str) -> None:
        path = os.path.relpath(place, root)
        if not path.startswith("..") and "__pycache__" not in path:
            hit(f"{event} {re.sub(r'[.][0-9]+[.]part$', '.part', path)}")

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in EVENTS or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        if event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            tell(event, os.fsdecode(arguments[0]))

    def synced(descriptor: int) -> None:
        tell("fsync", str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    sys.addaudithook(audit)
    os.fsync = synced  # type: ignore[assignment]


def _note(notes: Path, line: str) -> None:
    descriptor = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def _killer(point: str, time: int = 1) -> Callable[[str], None]:
    """What ends the process when `point` is reached for the `time`-th time."""
    left, lock = time, threading.Lock()

    def hit(reached: str) -> None:
        nonlocal left
        if reached == point:
            with lock:
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

    return hit
