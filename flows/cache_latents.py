"""Encode every picture once, with its conditions, so that training reads neither pictures nor text."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from flows.inputs import resume_folder
from flows.stage import main
from ldm.autoencoder.cache import Work, cache_latents, planned
from ldm.autoencoder.config import Latents
from ldm.config import Run, load, section
from ldm.progress import Progress

T = TypeVar("T")


def stage(name: str) -> Iterator[Progress]:
    made = _asked(cache_latents, name)
    with resume_folder("cache_latents", name) as resume:
        yield from made(out=Path("data/latents", name), resume=resume)


def shards(name: str, resume: Path) -> Work:
    """The files of the stage, for a cluster's processes."""
    return _asked(planned, name)(resume=resume)


def _asked(function: Callable[..., T], name: str) -> Callable[..., T]:
    """`function` of what params.yaml says of the row."""
    params = load()
    config = section(params, Latents, f"latents.{name}")
    return partial(
        function,
        config,
        section(params, Run, "run"),
        images=Path("data/prepared", config.dataset),
        autoencoder=Path("models/autoencoders", config.autoencoder),
        vocabulary=Path("data/weights", config.vocabulary),
        clip=Path("data/weights", config.clip),
    )


if __name__ == "__main__":
    main(stage, table="latents", shared=True)
