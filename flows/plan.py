"""How long what is stale will take, and how much memory and disk, before any of it runs.

Each stage is rehearsed: a few steps of the real one, at its batch and sizes on drawn scenes, in a folder of its
own that is removed at the end. Stages of the same shapes are rehearsed once.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from flows.console import duration
from flows.estimates import Estimate, Estimates
from flows.graph import Graph
from flows.rehearsal import Rehearsal, available_memory
from flows.shrunk import Shrunk
from flows.stage import explain, mendable
from ldm.config import load

LIMIT = 60.0
CURRENT = Estimate(work="", seconds=0.0, memory=0, gpu_memory=0, output=0, scratch=0, note="up to date")


def estimates(graph: Graph, force: bool, folder: Path | None, limit: float) -> Iterator[tuple[str, Estimate]]:
    """Of each stage in order. `folder`: an empty one to rehearse in, or None for the counts alone."""
    params, stale = load(), graph.would_run(force)
    small = Shrunk(params)
    rehearsal = Rehearsal(folder, small, limit) if folder else None
    current = [row for name in graph.names if name not in stale for _, _, row in [name.partition("prepare@")] if row]
    known = Estimates(params, current, small, rehearsal)
    for name in graph.names:
        stage, _, row = name.partition("@")
        yield name, known.of(stage, row) if name in stale else CURRENT


def main() -> int:
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.limit <= 0:
        parser.error("--limit: seconds, more than 0")
    try:
        graph = Graph(arguments.targets)
        found = _found(graph, arguments.force, arguments.measure, arguments.limit)
    except KeyboardInterrupt:
        print("plan: stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if not mendable(error):
            raise
        print(f"plan: {explain(error)}", file=sys.stderr)
        return 1
    if arguments.json:
        stages = {name: asdict(estimate) for name, estimate in found.items()}
        print(json.dumps({"stages": stages, "total": asdict(total(found.values()))}, indent=2))
    else:
        show(found, arguments.measure)
    return 0


def _found(graph: Graph, force: bool, measure: bool, limit: float) -> dict[str, Estimate]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar, found = progress.add_task("planning", total=len(graph.names)), dict[str, Estimate]()
        with tempfile.TemporaryDirectory(prefix="plan-") as folder:
            progress.update(bar, description=graph.names[0] if graph.names else "")
            for name, estimate in estimates(graph, force, Path(folder) if measure else None, limit):
                found[name] = estimate
                following = graph.names[len(found) : len(found) + 1]
                progress.update(bar, advance=1, description=following[0] if following else name)
    return found


def total(found: Iterable[Estimate]) -> Estimate:
    """Times and outputs add up; stages run one after the other, so memory and scratch are those of the largest."""
    found = list(found)
    unknown = sum(estimate.seconds is None for estimate in found)
    return Estimate(
        work="together",
        seconds=sum(estimate.seconds or 0 for estimate in found),
        memory=max((estimate.memory or 0 for estimate in found), default=0),
        gpu_memory=max((estimate.gpu_memory or 0 for estimate in found), default=0),
        output=sum(estimate.output or 0 for estimate in found),
        scratch=max((estimate.scratch or 0 for estimate in found), default=0),
        note=f"{unknown} not measured" if unknown else "",
    )


def show(found: dict[str, Estimate], measured: bool) -> None:
    whole, on_gpu = total(found.values()), any(estimate.gpu_memory for estimate in found.values())
    sizes = ["time", "memory", *(["GPU memory"] if on_gpu else []), "written", "scratch"] if measured else []
    table = Table()
    table.add_column("stage", no_wrap=True)
    table.add_column("what")
    for heading in sizes:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, estimate in found.items():
        cells = _cells(estimate, on_gpu) if measured else []
        said = "; ".join(filter(None, [estimate.work, estimate.note]))
        table.add_row(name, said, *cells, style="dim" if estimate is CURRENT else None)
    if measured:
        table.add_section()
        table.add_row("together", whole.note, *_cells(whole, on_gpu), style="bold")
    console = Console(highlight=False)
    console.print(table)
    for line in warnings(whole) if measured else ():
        console.print(line, soft_wrap=True)


def warnings(whole: Estimate) -> Iterator[str]:
    """What this machine lacks."""
    needed, free = (whole.output or 0) + (whole.scratch or 0), shutil.disk_usage(Path.cwd()).free
    yield "DVC keeps a second copy of what is written in its cache, unless the file system shares blocks (reflinks)."
    if 2 * needed > free:
        yield f"Disk: {size(free)} is free here; with the cache up to {size(2 * needed)} are wanted."
    if (whole.memory or 0) > (free := available_memory()):
        yield f"Memory: {size(free)} is free now, {size(whole.memory)} are wanted."


def _cells(estimate: Estimate, on_gpu: bool) -> list[str]:
    seconds = "?" if estimate.seconds is None else duration(estimate.seconds)
    sizes = [estimate.memory, *([estimate.gpu_memory] if on_gpu else []), estimate.output, estimate.scratch]
    return [seconds, *map(size, sizes)]


def size(count: int | None) -> str:
    """
    >>> size(1_300_000), size(0), size(None)
    ('1.3 MB', '0', '?')
    """
    if not count:
        return "?" if count is None else "0"
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} bytes"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.plan",
        description=__doc__,
        epilog="""examples:
  python -m flows.plan                          everything that is stale
  python -m flows.plan sample@text-f4           one stage, and what it is made from
  python -m flows.plan --no-measure             how many steps and pictures; at once
  python -m flows.plan --force --json           as if nothing were there, for another program""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="STAGE@NAME, or STAGE for all its names (all)")
    parser.add_argument("--force", action="store_true", help="plan stages that are up to date, too")
    parser.add_argument("--no-measure", dest="measure", action="store_false", help="run nothing: counts alone")
    parser.add_argument("--json", action="store_true", help="seconds and bytes, instead of a table")
    parser.add_argument(
        "--limit", type=float, default=LIMIT, metavar="SECONDS", help=f"of a rehearsal, for slow machines ({LIMIT:g})"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
