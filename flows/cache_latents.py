"""Encode every picture once, with its conditions, so that training reads neither pictures nor text."""

from collections.abc import Iterator
from pathlib import Path

from flows.inputs import resume_folder
from flows.stage import main
from ldm.autoencoder.cache import cache_latents
from ldm.autoencoder.config import Latents
from ldm.config import Run, load, section
from ldm.progress import Progress


def stage(name: str) -> Iterator[Progress]:
    params = load()
    config = section(params, Latents, f"latents.{name}")
    with resume_folder("cache_latents", name) as resume:
        yield from cache_latents(
            config,
            section(params, Run, "run"),
            images=Path("data/prepared", config.dataset),
            autoencoder=Path("models/autoencoders", config.autoencoder),
            vocabulary=Path("data/weights", config.vocabulary),
            clip=Path("data/weights", config.clip),
            out=Path("data/latents", name),
            resume=resume,
        )


if __name__ == "__main__":
    main(stage, table="latents")
