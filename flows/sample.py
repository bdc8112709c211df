"""Draw pictures from a trained model, for the conditions of one part of a data set."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from flows.inputs import resume_folder
from flows.stage import main
from ldm.config import Run, load, section
from ldm.progress import Progress
from ldm.sampling.config import Samples
from ldm.sampling.sample import planned, sample
from ldm.sampling.work import Work

T = TypeVar("T")


def stage(name: str) -> Iterator[Progress]:
    with resume_folder("sample", name) as resume:
        yield from _of(sample, name, out=Path("samples", name), resume=resume)


def shards(name: str, resume: Path) -> Work:
    """The batches of the stage, for a cluster's processes."""
    return _of(planned, name, resume=resume)


def _of(function: Callable[..., T], name: str, **folders: Path) -> T:
    params = load()
    config = section(params, Samples, f"samples.{name}")
    return function(
        config,
        section(params, Run, "run"),
        model=Path("models/diffusion", config.model),
        autoencoder=Path("models/autoencoders", config.autoencoder),
        latents=Path("data/latents", config.latents),
        weights=Path("data/weights", config.weights),
        **folders,
    )


if __name__ == "__main__":
    main(stage, table="samples", shared=True)
