"""Run what is stale, of the whole graph or of some targets with all they need, as one Prefect run with its stages.

Each stage is run by DVC, just as `dvc repro` does: the same command, the same dvc.lock. Only the walk over the graph is
ours, so that the stages are entries on one timeline, and those that do not need a failed one still run.
"""

import argparse
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from types import FrameType

from flows import show  # first of all, for it sets Prefect up

# isort: split
import psutil
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_UI_URL
from prefect.states import Cancelled, Completed, Failed

from flows.graph import Graph, StageError
from flows.overview import Overview
from flows.stage import PLAIN, explain, mendable
from flows.timeline import Timeline
from ldm.progress import Progress


@flow(name="pipeline")
def pipeline(targets: Sequence[str] = (), set: Sequence[str] = (), force: bool = False, workers: bool = False) -> State:
    """The same, started from Prefect's pages or by its schedule."""
    overview = Overview()

    def records() -> Iterator[Progress]:  # here, where a refusal is shown
        if workers and set:
            raise ValueError("workers run what is committed: edit params.yaml, commit and push it, and leave out `set`")
        change(set)
        yield from walk(Graph(targets), force, workers, overview)

    return show.shown_here("pipeline", records(), explain, again=_again(targets, workers), more=overview)[0]


def walk(graph: Graph, force: bool, workers: bool, overview: Overview) -> Iterator[Progress]:
    """The stages one after the other here, or as many at once as there are workers elsewhere."""
    if not workers:
        return stages(graph, force, overview)
    from flows.spread import spread  # here, for only who has workers needs it

    return spread(graph, overview)


def change(assignments: Sequence[str]) -> None:
    """Write each KEY=VALUE into params.yaml, and say so."""
    if assignments:
        from flows.override import override  # here, for it takes seconds to import

        print("\n".join(override(assignments)), flush=True)


def stages(graph: Graph, force: bool, overview: Overview) -> Iterator[Progress]:
    """Bring each stage of `graph` up to date, a record a stage; at the end a ValueError says which failed, and why.

    KeyboardInterrupt where one was stopped: then nothing after it runs.
    """
    timeline, failed = Timeline(), dict[str, str]()
    overview.states = dict.fromkeys(graph.names)
    if timeline.page:
        print(f"Prefect's page of this run: {timeline.page}", flush=True)
    with passing_on_sigterm() as stopped:
        for done, name in enumerate(graph.names, 1):
            environment = timeline.begin(name, graph.needed(name))
            state: State = Cancelled(message="stopped before its end")
            try:
                state = _stage(graph, name, environment, force, failed, f"[{done}/{len(graph.names)}] {name}")
            finally:
                overview.states[name] = state = timeline.end(name, state)
            if stopped.is_set():
                raise KeyboardInterrupt
            if state.is_failed():
                failed[name] = (state.message or "").partition(show.GO_ON)[0]
            note = f"{name}: {failed.get(name, state.message)}"
            yield Progress(done=done, total=len(graph.names), unit="stages", notes=[note])
    if failed:
        raise ValueError("; ".join(f"{name}: {reason}" for name, reason in failed.items()))


def _stage(
    graph: Graph, name: str, environment: dict[str, str], force: bool, failed: Iterable[str], label: str
) -> State:
    missing = graph.upstream(name).intersection(failed)
    if missing:
        print(f"{label}: not run, for it needs {min(missing)}", flush=True)
        return Cancelled(name="NotRun", message=f"needs {min(missing)}, which failed")
    if not force and not graph.stale(name):
        print(f"{label}: up to date", flush=True)
        return Completed(name="Cached", message="up to date")
    print(label, flush=True)
    try:
        graph.run(name, environment or {PLAIN: "1"}, force)
    except StageError as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return Failed(message=str(error))
    return Completed(message="done")


def plan(graph: Graph, force: bool) -> None:
    """Say of each stage whether it is up to date, or what it would do; what only an upstream stage makes stale may not.

    And with what command to measure how long.
    """
    from flows.plan import CURRENT, LIMIT, estimates  # here, for it takes seconds to import

    for place, (name, estimate) in enumerate(estimates(graph, force, None, LIMIT), 1):
        would = "up to date" if estimate is CURRENT else ": ".join(filter(None, ["would run", estimate.work]))
        print(f"[{place}/{len(graph.names)}] {name}: {would}")
    measure = " ".join(["python -m flows.plan", *(["--force"] if force else []), *graph.targets])
    print(f"hours, memory and disk, from a short measurement: {measure}")


@contextmanager
def passing_on_sigterm() -> Iterator[Event]:
    """SIGTERM stops the process of the stage, which saves its state first, and is noted; DVC would leave it running."""
    stopped = Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        stopped.set()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):  # ended in between
                if any(word.startswith("flows.") for word in process.cmdline()):
                    return process.terminate()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> int:
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.dry and arguments.set:
        parser.error("-S writes params.yaml, and --dry-run writes nothing: give one of them")
    if arguments.workers and (arguments.dry or arguments.force or arguments.set):
        parser.error("--workers run what is committed and in no remote yet: not with -S, --force or --dry-run")
    label = " ".join(["pipeline", *arguments.targets])
    try:
        if arguments.serve:
            serve()
        elif arguments.dry:
            plan(Graph(arguments.targets), arguments.force)
        else:
            change(arguments.set)
            run(label, Graph(arguments.targets), arguments.set, arguments.force, arguments.workers)
    except KeyboardInterrupt:
        again = _again(arguments.targets, arguments.workers)
        print(f"{label}: stopped; to go on from the last saved state: {again}", file=sys.stderr)
        return 130
    except Exception as error:
        if not mendable(error):
            raise
        print(f"{label}: {explain(error)}", file=sys.stderr)
        return 1
    return 0


def run(label: str, graph: Graph, set: Sequence[str], force: bool, workers: bool = False) -> None:
    """All stages, in a Prefect run that shows what was asked for, or without where the environment says so."""
    overview = Overview()
    records = walk(graph, force, workers, overview)
    if os.environ.get(PLAIN):
        for _ in records:
            pass
    else:
        parameters = {"targets": graph.targets, "set": set, "force": force, "workers": workers}
        again = _again(graph.targets, workers)
        show.in_prefect("pipeline", label, records, explain, again=again, parameters=parameters, more=overview)


def serve() -> None:
    """Run here what is started in Prefect's pages, one at a time, as the deployment `pipeline/here`, until stopped."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))
    with show.using_server():
        print(f"started in {PREFECT_UI_URL.value()}/deployments (pipeline/here), run in {Path.cwd()}", flush=True)
        pipeline.serve(name="here", limit=1, print_starting_message=False)


def _again(targets: Sequence[str], workers: bool) -> str:
    return " ".join(["python -m flows.pipeline", *(["--workers"] if workers else []), *targets])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.pipeline",
        description=(__doc__ or "").partition("\n")[0],
        epilog="""examples:
  python -m flows.pipeline                               everything, to the report
  python -m flows.pipeline --dry-run                     only list what would run, and how much of it
  python -m flows.pipeline train_diffusion@text-f4       one model, and what it is made from
  python -m flows.pipeline evaluate                      the figures of all samples
  python -m flows.pipeline -S diffusion.text-f4.train.steps=4000 -S run.threads=4

`python -m flows.server` starts a Prefect server that keeps the runs and shows them.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="STAGE@NAME, or STAGE for all its names (all)")
    parser.add_argument(
        "-S", "--set", action="append", default=[], metavar="KEY=VALUE", help="first write this value into params.yaml"
    )
    parser.add_argument("--force", action="store_true", help="run stages that are up to date, too")
    parser.add_argument("--workers", action="store_true", help="hand stages out to workers (docs/many-machines.md)")
    parser.add_argument("--serve", action="store_true", help="wait for runs that are started in Prefect's pages")
    parser.add_argument("--dry-run", dest="dry", action="store_true", help="list the stages in order, and run none")
    return parser


if __name__ == "__main__":
    sys.exit(main())
