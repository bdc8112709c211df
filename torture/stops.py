"""SIGTERM and Ctrl-C in every stage, a burst of NaN in a training, a state left from before an edit."""

import signal
from collections.abc import Iterator
from functools import partial

from torture.bench import STAGES, TRAININGS, Bench, Fault, clear, promised_line
from torture.process import run
from torture.project import Project

STEPS = 20
"""Of the trainings in the smoke preset."""


def faults(bench: Bench) -> Iterator[Fault]:
    for how in (signal.SIGTERM, signal.SIGINT):
        yield _told_to_end(bench, how)
    yield _not_numbers(bench)
    yield _edited(bench)


def _told_to_end(bench: Bench, how: signal.Signals) -> Fault:
    """Exit code 130 and a line; a training has then lost no step that it finished."""
    fault = Fault(name=f"{how.name} at any moment")
    for stage, name in STAGES.items():
        with bench.copy() as project:
            clear(project, stage, name)
            took = run(project.folder, stage, name).seconds
            times = max(1, bench.kills // 25)
            for i in range(times):
                part = (i + bench.chance.random()) / times
                code = 0
                while not code:
                    clear(project, stage, name)
                    ended = run(project.folder, stage, name, when=part * took, how=how)
                    code, part = ended.code, part * 0.9
                promised = code == 130 and ended.tidy and "stopped; the same command goes on" in ended.last
                kept = stage not in TRAININGS or _done(ended.said) in (0, *saved(project, stage, name), STEPS)
                bench.finish(fault, project, stage, name, promised and kept, f"{how.name}, {code}: {ended.last}")
    return fault


def _done(said: str) -> int:
    """The last step that a training told."""
    told = [words for line in said.splitlines() for words in line.split() if words.endswith(f"/{STEPS}")]
    return int(told[-1].partition("/")[0]) if told else 0


def saved(project: Project, stage: str, name: str) -> list[int]:
    """Steps whose state is kept."""
    notes = (project.folder / ".resume" / stage / name).glob("*/step-*.json")
    return sorted(int(note.stem.removeprefix("step-")) for note in notes)


def _not_numbers(bench: Bench) -> Fault:
    """From each step on, for three steps, the gradients are no numbers; the next time they are."""
    fault = Fault(name="NaN burst in a training")
    for stage in TRAININGS:
        name = STAGES[stage]
        with bench.copy() as project:
            for begin in range(0, STEPS, 3):
                clear(project, stage, name)
                ended = run(project.folder, stage, name, first=partial(_poison, begin))
                promised = promised_line(ended) and "is not a finite number at step" in ended.last
                bench.finish(fault, project, stage, name, promised, f"from step {begin}: {ended.last}")
    return fault


def _poison(begin: int) -> None:
    import torch

    clip, calls = torch.nn.utils.clip_grad_norm_, 0

    def poisoned(parameters, *arguments, **options):
        nonlocal calls
        calls += 1
        parameters = list(parameters)
        if begin < calls <= begin + 3:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.fill_(float("nan"))
        return clip(parameters, *arguments, **options)

    torch.nn.utils.clip_grad_norm_ = poisoned


def _edited(bench: Bench) -> Fault:
    """Killed, edited, run: the state of before is not taken up. Edited back, run: the bytes are those of before."""
    fault = Fault(name="a state from before an edit")
    for stage, old, new in (
        ("train_autoencoder", "seed: 2, flip", "seed: 20, flip"),
        ("train_diffusion", "seed: 4, save", "seed: 40, save"),
    ):
        name = STAGES[stage]
        with bench.copy() as project:
            clear(project, stage, name)
            run(project.folder, stage, name, when=lambda: bool(saved(project, stage, name)))  # noqa: B023 -- within the loop
            project.edit(old, new)
            ended = run(project.folder, stage, name)
            anew = ended.code == 0 and bool(bench.differing(project, stage, name))
            project.edit(new, old)
            bench.finish(fault, project, stage, name, anew, f"after the edit: {ended.last}")
    return fault
