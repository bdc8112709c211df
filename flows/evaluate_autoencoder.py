"""Measure how well an autoencoder gives pictures back."""

from collections.abc import Iterator
from pathlib import Path

from flows.stage import main
from ldm.config import Run, load, section
from ldm.evaluation.autoencoder import evaluate_autoencoder
from ldm.evaluation.config import AutoencoderEvaluation
from ldm.progress import Progress


def stage(name: str) -> Iterator[Progress]:
    params = load()
    config = section(params, AutoencoderEvaluation, f"evaluation.autoencoders.{name}")
    return evaluate_autoencoder(
        config,
        section(params, Run, "run"),
        images=Path("data/prepared", config.dataset),
        autoencoder=Path("models/autoencoders", config.autoencoder),
        reference=Path("metrics/reference", config.reference),
        features=Path("data/weights", config.features),
        perceptual=Path("data/weights", config.perceptual),
        out=Path("metrics/autoencoders", f"{name}.json"),
    )


if __name__ == "__main__":
    main(stage, table="evaluation.autoencoders", shared=True)
