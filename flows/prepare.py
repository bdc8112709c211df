"""Bring raw pictures, or drawn scenes, to one size, one format and seeded parts."""

from collections.abc import Iterator
from pathlib import Path

from flows.stage import main
from ldm.config import load, section
from ldm.progress import Progress
from ldm.sources.config import Dataset
from ldm.sources.prepare import prepare


def stage(name: str) -> Iterator[Progress]:
    config = section(load(), Dataset, f"datasets.{name}")
    return prepare(config, raw=Path(config.raw), out=Path("data/prepared", name))


if __name__ == "__main__":
    main(stage, table="datasets")
