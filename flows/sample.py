"""Draw pictures from a trained model, for the conditions of one part of a data set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.inputs import resume_folder
from flows.stage import main
from ldm.config import Run, load, section
from ldm.progress import Progress
from ldm.sampling.config import Samples
from ldm.sampling.sample import planned, sample
from ldm.sampling.work import Work


def stage(name: str) -> Iterator[Progress]:
    asked = _asked(name)
    with resume_folder("sample", name) as resume:
        yield from sample(**asked, out=Path("samples", name), resume=resume)


def shards(name: str, resume: Path) -> Work:
    """The batches of the stage, for a cluster's processes."""
    return planned(**_asked(name), resume=resume)


def _asked(name: str) -> dict[str, Any]:
    params = load()
    config = section(params, Samples, f"samples.{name}")
    return {
        "config": config,
        "run": section(params, Run, "run"),
        "model": Path("models/diffusion", config.model),
        "autoencoder": Path("models/autoencoders", config.autoencoder),
        "latents": Path("data/latents", config.latents),
        "weights": Path("data/weights", config.weights),
    }


if __name__ == "__main__":
    main(stage, table="samples", shared=True)
