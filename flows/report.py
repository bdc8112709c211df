"""Put tables and pictures of all there is on one page; beside it, outside every hash, a page about this run."""

from collections.abc import Iterator
from pathlib import Path

from flows.record import write_run_page
from flows.stage import main
from ldm.config import load, lookup
from ldm.progress import Progress
from ldm.report.build import build

LOCK = Path("dvc.lock")
OUTSIDE = ("data/raw/", "data/weights/")
NONE = "none"
"""The empty folder that a row without any names."""


def stage(name: str = "report") -> Iterator[Progress]:
    out = Path(name)
    yield from build(Path(), out, outside())
    write_run_page(out / "run.html")


def outside() -> dict[str, str] | None:
    """The hash of all that came in, raw data and weights, by its path; None where DVC ran nothing.

    It is the one that DVC knew when it ran the stages of the rows in params.yaml, so that of what they have read. No
    dependency of the report: what changes in it without changing anything made of it makes no report stale.
    """
    if not LOCK.is_file():
        return None
    params, stages = load(), load("dvc.yaml")["stages"]
    tables = {stage: entry["foreach"][2:-1] for stage, entry in stages.items() if "foreach" in entry}
    found: dict[str, str] = {}
    for entry, locked in (load(LOCK).get("stages") or {}).items():
        stage, _, name = entry.partition("@")
        if stage in tables and name in lookup(params, tables[stage]):
            read = {dep["path"]: dep["md5"] for dep in locked["deps"]}
            found |= {path: md5 for path, md5 in read.items() if path.startswith(OUTSIDE) and Path(path).name != NONE}
    return dict(sorted(found.items()))


if __name__ == "__main__":
    main(stage)
