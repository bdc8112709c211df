"""Make the page on which people say which of two pictures they prefer, and its key."""

from collections.abc import Iterator
from pathlib import Path

from flows.stage import main
from ldm.config import load, section
from ldm.progress import Progress
from ldm.study.config import Study
from ldm.study.export import export


def stage(name: str) -> Iterator[Progress]:
    config = section(load(), Study, f"studies.{name}")
    return export(
        config,
        first=Path("samples", config.first),
        second=Path("samples", config.second),
        images=Path("data/prepared", config.dataset),
        public=Path("studies", name, "public"),
        key=Path("studies", name, "key.json"),
    )


if __name__ == "__main__":
    main(stage, table="studies")
