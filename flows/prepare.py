"""Bring raw pictures, or drawn scenes, to one size, one format and seeded parts."""

from collections.abc import Iterator
from pathlib import Path

from flows.inputs import resume_folder
from flows.stage import main
from ldm.config import load, section
from ldm.progress import Progress
from ldm.sources.config import Dataset
from ldm.sources.prepare import prepare
from ldm.sources.raw import Raw, opened
from ldm.sources.work import Work


def stage(name: str) -> Iterator[Progress]:
    raw = _opened(name)  # first, for the key of the resume folder reads every raw file, and this says mistakes at once
    with resume_folder("prepare", name) as resume:
        yield from prepare(raw, out=Path("data/prepared", name), resume=resume)


def shards(name: str, resume: Path) -> Work:
    """The parts of the stage, for a cluster's processes."""
    return Work(_opened(name), resume)


def _opened(name: str) -> Raw:
    config = section(load(), Dataset, f"datasets.{name}")
    return opened(config, place=Path(config.raw))


if __name__ == "__main__":
    main(stage, table="datasets")
