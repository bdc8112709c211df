"""How many threads read ahead."""

from collections.abc import Iterator
from functools import partial

from torture.bench import STAGES, Bench, Fault, Try
from torture.process import run


def tries() -> Iterator[Try]:
    for stage in ("prepare", "train_autoencoder", "cache_latents", "train_diffusion"):
        yield "0, 1, 2 and 5 loader workers", partial(_read_ahead, stage=stage)


def _read_ahead(bench: Bench, fault: Fault, stage: str) -> None:
    with bench.copy(fault) as project:
        for workers in ("0", "1", "2", "5"):
            bench.clear(project, stage)
            ended = run(project.folder, stage, STAGES[stage], LDM_WORKERS=workers)
            fault.add(ended.code == 0, bench.differing(project), f"{stage}, {workers} workers: {ended.last}")
