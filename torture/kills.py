"""SIGKILL at moments spread evenly over the wall time of every stage."""

import signal
from collections.abc import Iterator
from functools import partial

from torture.bench import STAGES, Bench, Fault, Try
from torture.process import run


def tries() -> Iterator[Try]:
    for stage in STAGES:
        yield "SIGKILL at any moment", partial(_killed, stage=stage)


def _killed(bench: Bench, fault: Fault, stage: str) -> None:
    name = STAGES[stage]
    with bench.copy(fault) as project:
        bench.clear(project, stage)
        took = run(project.folder, stage, name).seconds
        for i in range(bench.kills):
            part = (i + bench.chance.random()) / bench.kills
            struck = False
            while not struck:  # it may end before its moment, for no two runs take the same time
                bench.clear(project, stage)
                moment = part * took
                struck = run(project.folder, stage, name, when=moment).code == -signal.SIGKILL
                part *= 0.95
            bench.finish(fault, project, stage, True, f"killed after {moment:.3f} s")
