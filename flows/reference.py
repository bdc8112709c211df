"""Measure the feature statistics of real pictures, which figures of samples are compared with."""

from collections.abc import Iterator
from pathlib import Path

from flows.stage import main
from ldm.config import Run, load, section
from ldm.evaluation.config import Reference
from ldm.evaluation.reference import reference
from ldm.progress import Progress


def stage(name: str) -> Iterator[Progress]:
    params = load()
    config = section(params, Reference, f"evaluation.references.{name}")
    return reference(
        config,
        section(params, Run, "run"),
        images=Path("data/prepared", config.dataset),
        features=Path("data/weights", config.features),
        out=Path("metrics/reference", name),
    )


if __name__ == "__main__":
    main(stage, table="evaluation.references", shared=True)
