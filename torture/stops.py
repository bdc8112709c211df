"""SIGTERM and Ctrl-C in every stage, a burst of NaN in a training, a state left from before an edit."""

import signal
from collections.abc import Iterator
from functools import partial

from torture.bench import STAGES, TRAININGS, Bench, Fault, Try, promised_line
from torture.process import run
from torture.project import STEPS, Project

EDITS = {
    "train_autoencoder": ("seed: 2, flip", "seed: 20, flip"),
    "train_diffusion": ("seed: 4, save", "seed: 40, save"),
}


def tries() -> Iterator[Try]:
    for stage in STAGES:
        for how in (signal.SIGTERM, signal.SIGINT):
            yield f"{how.name} at any moment", partial(_told_to_end, stage=stage, how=how)
    for stage in TRAININGS:
        yield "NaN burst in a training", partial(_not_numbers, stage=stage)
        yield "a state from before an edit", partial(_edited, stage=stage)


def _told_to_end(bench: Bench, fault: Fault, stage: str, how: signal.Signals) -> None:
    """Exit code 130 and a line; a training has then lost no step that it finished."""
    name = STAGES[stage]
    with bench.copy(fault) as project:
        bench.clear(project, stage)
        took = run(project.folder, stage, name).seconds
        times = max(1, bench.kills // 25)
        for i in range(times):
            part = (i + bench.chance.random()) / times
            code = 0
            while not code:
                bench.clear(project, stage)
                ended = run(project.folder, stage, name, when=part * took, how=how)
                code, part = ended.code, part * 0.9
            promised = code == 130 and ended.tidy and "stopped; the same command goes on" in ended.last
            kept = stage not in TRAININGS or _done(ended.said) in (0, *saved(project, stage), STEPS)
            bench.finish(fault, project, stage, promised and kept, f"{how.name}, {code}: {ended.last}")


def _done(said: str) -> int:
    """The last step that a training told."""
    told = [words for line in said.splitlines() for words in line.split() if words.endswith(f"/{STEPS}")]
    return int(told[-1].partition("/")[0]) if told else 0


def saved(project: Project, stage: str) -> list[int]:
    """Steps whose state is kept."""
    notes = (project.folder / ".resume" / stage / STAGES[stage]).glob("*/step-*.json")
    return sorted(int(note.stem.removeprefix("step-")) for note in notes)


def _not_numbers(bench: Bench, fault: Fault, stage: str) -> None:
    """From each third step on, for three steps, the gradients are no numbers; the next time they are."""
    with bench.copy(fault) as project:
        for begin in range(0, STEPS, 3):
            bench.clear(project, stage)
            ended = run(project.folder, stage, STAGES[stage], first=partial(_poison, begin))
            promised = promised_line(ended) and "is not a finite number at step" in ended.last
            bench.finish(fault, project, stage, promised, f"from step {begin}: {ended.last}")


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


def _edited(bench: Bench, fault: Fault, stage: str) -> None:
    """Killed, edited, run: as if begun with the edit. Edited back, run: as if never edited."""
    name, (old, new) = STAGES[stage], EDITS[stage]
    with bench.copy(fault) as project, bench.copy() as undisturbed:
        undisturbed.edit(old, new)
        bench.clear(undisturbed, stage)
        run(undisturbed.folder, stage, name)
        bench.clear(project, stage)
        run(project.folder, stage, name, when=lambda: bool(saved(project, stage)))
        project.edit(old, new)
        ended = run(project.folder, stage, name)
        fault.add(ended.code == 0, bench.differing(project, undisturbed), f"{stage}, after the edit: {ended.last}")
        project.edit(new, old)
        bench.finish(fault, project, stage, bool(bench.differing(undisturbed)), "edited back; or the edit did nothing")
