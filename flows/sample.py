"""Draw pictures from a trained model, for the conditions of one part of a data set."""

from collections.abc import Callable, Iterator
from functools import partial
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
    drawn = _asked(sample, name)
    with resume_folder("sample", name) as resume:
        yield from drawn(out=Path("samples", name), resume=resume)


def shards(name: str, resume: Path) -> Work:
    """The batches of the stage, for a cluster's processes."""
    return _asked(planned, name)(resume=resume)


def _asked(function: Callable[..., T], name: str) -> Callable[..., T]:
    """`function` of what params.yaml says of the row."""
    params = load()
    config = section(params, Samples, f"samples.{name}")
    return partial(
        function,
        config,
        section(params, Run, "run"),
        model=Path("models/diffusion", config.model),
        autoencoder=Path("models/autoencoders", config.autoencoder),
        latents=Path("data/latents", config.latents),
        weights=Path("data/weights", config.weights),
        classifier=Path("models/diffusion", config.classifier),
    )


if __name__ == "__main__":
    main(stage, table="samples", shared=True)
