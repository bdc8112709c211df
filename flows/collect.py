"""Bring pictures that another method made beside those of the models, under the same originals."""

from collections.abc import Iterator
from pathlib import Path

from flows.stage import main
from ldm.config import load, section
from ldm.progress import Progress
from ldm.sampling.collect import collect
from ldm.sampling.config import Method


def stage(name: str) -> Iterator[Progress]:
    config = section(load(), Method, f"methods.{name}")
    return collect(
        config,
        latents=Path("data/latents", config.root.latents),
        folder=Path(config.root.folder),
        out=Path("samples", name),
    )


if __name__ == "__main__":
    main(stage, table="methods")
