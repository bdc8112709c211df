"""How many threads read ahead."""

from collections.abc import Iterator

from torture.bench import STAGES, Bench, Fault, clear
from torture.process import run


def faults(bench: Bench) -> Iterator[Fault]:
    fault = Fault(name="0, 1, 2 and 5 loader workers")
    for stage in ("prepare", "train_autoencoder", "cache_latents", "train_diffusion"):
        name = STAGES[stage]
        with bench.copy() as project:
            for workers in ("0", "1", "2", "5"):
                clear(project, stage, name)
                ended = run(project.folder, stage, name, LDM_WORKERS=workers)
                note = f"{stage}, {workers} workers: {ended.last}"
                fault.add(ended.code == 0, bench.differing(project, stage, name), note)
    yield fault
