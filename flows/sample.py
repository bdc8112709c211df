"""Draw pictures from a trained model, for the conditions of one part of a data set."""

from collections.abc import Iterator
from pathlib import Path

from flows.inputs import resume_folder
from flows.stage import main
from ldm.config import Run, load, section
from ldm.progress import Progress
from ldm.sampling.config import Samples
from ldm.sampling.sample import sample


def stage(name: str) -> Iterator[Progress]:
    params = load()
    config = section(params, Samples, f"samples.{name}")
    with resume_folder("sample", name) as resume:
        yield from sample(
            config,
            section(params, Run, "run"),
            model=Path("models/diffusion", config.model),
            autoencoder=Path("models/autoencoders", config.autoencoder),
            latents=Path("data/latents", config.latents),
            weights=Path("data/weights", config.weights),
            out=Path("samples", name),
            resume=resume,
        )


if __name__ == "__main__":
    main(stage, table="samples", shared=True)
