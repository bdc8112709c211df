"""SIGKILL at moments spread evenly over the wall time of every stage."""

import signal
from collections.abc import Iterator

from torture.bench import STAGES, Bench, Fault, clear
from torture.process import run


def faults(bench: Bench) -> Iterator[Fault]:
    for stage, name in STAGES.items():
        fault = Fault(name=f"SIGKILL at any moment: {stage}")
        with bench.copy() as project:
            clear(project, stage, name)
            took = run(project.folder, stage, name).seconds
            for i in range(bench.kills):
                part = (i + bench.chance.random()) / bench.kills
                struck = False
                while not struck:  # it may end before its moment, for no two runs take the same time
                    clear(project, stage, name)
                    moment = part * took
                    struck = run(project.folder, stage, name, when=moment).code == -signal.SIGKILL
                    part *= 0.95
                bench.finish(fault, project, stage, name, True, f"killed after {moment:.3f} s")
        yield fault
