"""Train a denoiser on cached latents."""

from collections.abc import Iterator
from pathlib import Path

from flows.inputs import resume_folder
from flows.stage import main
from ldm.config import Run, load, section
from ldm.diffusion.config import Diffusion
from ldm.diffusion.train import train
from ldm.progress import Progress


def stage(name: str) -> Iterator[Progress]:
    params = load()
    config = section(params, Diffusion, f"diffusion.{name}")
    with resume_folder("train_diffusion", name) as resume:
        yield from train(
            config,
            section(params, Run, "run"),
            latents=Path("data/latents", config.latents),
            autoencoder=Path("models/autoencoders", config.autoencoder),
            initial=Path("models/diffusion", config.init_from),
            out=Path("models/diffusion", name),
            resume=resume,
        )


if __name__ == "__main__":
    main(stage, table="diffusion", shared=True)
