"""Train the first stage: images to latents and back."""

from collections.abc import Iterator
from pathlib import Path

from flows.inputs import resume_folder
from flows.stage import main
from ldm.autoencoder.config import Autoencoder
from ldm.autoencoder.train import train
from ldm.config import Run, load, section
from ldm.progress import Progress


def stage(name: str) -> Iterator[Progress]:
    params = load()
    config = section(params, Autoencoder, f"autoencoders.{name}")
    with resume_folder("train_autoencoder", name) as resume:
        yield from train(
            config,
            section(params, Run, "run"),
            images=Path("data/prepared", config.root.dataset),
            weights=Path("data/weights", config.root.perceptual),
            initial=Path("models/autoencoders", config.root.init_from),
            out=Path("models/autoencoders", name),
            resume=resume,
        )


if __name__ == "__main__":
    main(stage, table="autoencoders", shared=True)
