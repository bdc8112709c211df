"""Put tables and pictures of all there is on one page; beside it, outside every hash, a page about this run."""

from collections.abc import Iterator
from pathlib import Path

from flows.record import write_run_page
from flows.stage import main
from ldm.progress import Progress
from ldm.report.build import build


def stage(name: str = "report") -> Iterator[Progress]:
    out = Path(name)
    yield from build(Path(), out)
    write_run_page(out / "run.html")


if __name__ == "__main__":
    main(stage)
