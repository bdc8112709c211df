"""SIGKILL wherever a stage touches the disk: at each opening for writing, fsync, rename and removal; in mid-write."""

import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torture.bench import STAGES, Bench, Fault, clear
from torture.process import run
from torture.project import Project, contents, outputs

POINTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}
"""Events that Python tells an audit hook before they happen; os.replace is a rename to it."""


def faults(bench: Bench) -> Iterator[Fault]:
    for stage, name in STAGES.items():
        with bench.copy() as project:
            yield _at_points(bench, project, stage, name)
            yield _in_writes(bench, project, stage, name)


def _at_points(bench: Bench, project: Project, stage: str, name: str) -> Fault:
    fault = Fault(name=f"SIGKILL at every open, fsync, rename and removal: {stage}")
    notes = project.folder.parent / "points"
    clear(project, stage, name)
    run(project.folder, stage, name, first=partial(_told, partial(_note, notes)))
    points = notes.read_text().splitlines()
    notes.unlink()
    for number, point in enumerate(points, 1):
        clear(project, stage, name)
        ended = run(project.folder, stage, name, first=partial(_told, _killer(number)))
        reached = ended.code == -signal.SIGKILL
        bench.finish(
            fault, project, stage, name, reached, f"killed at {point} ({number} of {len(points)}), {ended.code}"
        )
    return fault


def _in_writes(bench: Bench, project: Project, stage: str, name: str) -> Fault:
    """The system ends the process in the write that would make a file larger than it may be, in whatever library."""
    fault = Fault(name=f"SIGKILL's like in the middle of a write: {stage}")
    sizes = {len(content) for content in contents(bench.reference.folder, outputs(stage, name)).values()}
    for size in sorted(size for size in sizes if size > 1):
        clear(project, stage, name)
        ended = run(project.folder, stage, name, first=partial(_no_file_above, size // 2))
        cut = ended.code == -signal.SIGXFSZ
        bench.finish(fault, project, stage, name, cut, f"no file above {size // 2} bytes, {ended.code}: {ended.last}")
    return fault


def _no_file_above(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python would have it an error
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _told(hit: Callable[[str], None]) -> None:
    """Have `hit` called before each point, in this process from now on."""
    root, fsync = f"{Path.cwd()}{os.sep}", os.fsync

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in POINTS or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 -- of a path in any form
        if path.startswith(root) and "__pycache__" not in path:
            hit(f"{event} {path.removeprefix(root)}")

    def synced(descriptor: int) -> None:
        hit("fsync")
        fsync(descriptor)

    sys.addaudithook(audit)
    os.fsync = synced  # type: ignore[assignment]


def _note(notes: Path, point: str) -> None:
    descriptor = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{point}\n".encode())
    os.close(descriptor)


def _killer(number: int) -> Callable[[str], None]:
    left, lock = number, threading.Lock()

    def hit(point: str) -> None:
        nonlocal left
        with lock:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    return hit
