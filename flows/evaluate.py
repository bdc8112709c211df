"""Measure samples against real pictures, and against the conditions they were drawn for."""

from collections.abc import Iterator
from pathlib import Path

from flows.stage import main
from ldm.config import Run, load, section
from ldm.evaluation.config import SampleEvaluation
from ldm.evaluation.samples import evaluate
from ldm.progress import Progress


def stage(name: str) -> Iterator[Progress]:
    params = load()
    config = section(params, SampleEvaluation, f"evaluation.samples.{name}")
    return evaluate(
        config,
        section(params, Run, "run"),
        samples=Path("samples", config.samples),
        images=Path("data/prepared", config.dataset),
        reference=Path("metrics/reference", config.reference),
        features=Path("data/weights", config.features),
        perceptual=Path("data/weights", config.perceptual),
        clip=Path("data/weights", config.clip),
        out=Path("metrics", f"{name}.json"),
    )


if __name__ == "__main__":
    main(stage, table="evaluation.samples", shared=True)
