"""A clock that jumps while a stage runs, and files that seem to come from another century."""

import os
import time
from collections.abc import Iterator
from functools import partial

from torture.bench import STAGES, Bench, Fault, Try
from torture.process import run
from torture.project import REPRO

JUMPS = {"a day back": -86400.0, "a year on": 365 * 86400.0, "to 1970": -time.time()}


def tries() -> Iterator[Try]:
    for stage in STAGES:
        yield "clock jumps in a stage", partial(_jumps, stage=stage)
    yield "files dated 1999 and 2099: nothing to do", _dated


def _jumps(bench: Bench, fault: Fault, stage: str) -> None:
    with bench.copy(fault) as project:
        for words, jump in JUMPS.items():
            bench.clear(project, stage)
            ended = run(project.folder, stage, STAGES[stage], first=partial(_jumping, jump))
            fault.add(ended.code == 0, bench.differing(project), f"{stage}, {words}: {ended.last}")


def _dated(bench: Bench, fault: Fault) -> None:
    with bench.copy() as project:
        for date in (915_148_800, 4_070_908_800):
            for file in project.folder.rglob("*"):
                if file.is_file() and ".git" not in file.parts and ".dvc" not in file.parts:
                    os.utime(file, (date, date))
            code, said = project.run(*REPRO, ok=False)
            nothing = code == 0 and "Data and pipelines are up to date" in said
            fault.add(nothing, bench.differing(project), said[-500:])


def _jumping(jump: float) -> None:
    """Forth and back at every tenth time that the clock is asked."""
    asked, now, now_ns = 0, time.time, time.time_ns

    def offset() -> float:
        nonlocal asked
        asked += 1
        return jump if asked // 10 % 2 else 0.0

    time.time = lambda: now() + offset()
    time.time_ns = lambda: now_ns() + int(1e9 * offset())
