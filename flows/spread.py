"""A pipeline whose stages workers run, as many at once as there are workers, each in a clone of its own.

What a worker made comes here through DVC's remote and its run cache: dvc.lock ends as if all had run here.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State, WorkerStatus
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Scheduled

from flows.graph import Graph, StageError
from flows.overview import ON_A_WORKER, Overview
from flows.pipeline import passing_on_sigterm
from flows.revision import revision
from flows.server import answers
from flows.show import GO_ON, PARENT
from flows.stage import PLAIN
from flows.timeline import Timeline
from ldm.progress import Progress

DEPLOYMENT = "stage/worker"
HERE = {"report"}
"""Run by the pipeline itself: the page is for whoever started it, and reads whole folders."""
ATTEMPTS = 3
"""How often a stage is handed out again whose worker was lost."""
EVERY = 1.0
UNHEARD = "Prefect's server is not heard; waiting for it"


@dataclass
class _Out:
    """A stage that was handed out."""

    run: UUID
    parent: str | None
    attempts: int = 1


class Workers:
    """The work pool of the deployment `stage/worker`, on the Prefect server of PREFECT_API_URL.

    Raises ValueError of one line where the deployment is not there, or no worker is.
    """

    def __init__(self, revision: str) -> None:
        self._revision = revision
        api = PREFECT_API_URL.value()
        if not api or not answers(api):
            raise ValueError(f"no Prefect server answers at PREFECT_API_URL={api or '(unset)'}; workers need one")
        self._client = SyncPrefectClient(api)
        try:
            deployment = self._client.read_deployment_by_name(DEPLOYMENT)
        except ObjectNotFound:
            raise ValueError(f"no deployment {DEPLOYMENT} on this server; make it: python -m flows.deploy") from None
        self._deployment, self.pool = deployment.id, str(deployment.work_pool_name)
        if not self.online():
            raise ValueError(f"work pool {self.pool} has no worker; on each machine: python -m flows.worker")

    def online(self) -> set[str]:
        """Names of the workers whose heart beats."""
        try:
            workers = self._client.read_workers_for_work_pool(self.pool, offset=0, limit=200)
        except ObjectNotFound:
            workers = []
        return {worker.name for worker in workers if worker.status == WorkerStatus.ONLINE}

    def hand_out(self, name: str, parent: str | None) -> UUID:
        """Ask for a run of the stage `name`; drawn into the entry `parent`."""
        run = self._client.create_flow_run_from_deployment(
            self._deployment,
            parameters={"target": name, "revision": self._revision},
            state=Scheduled(),
            name=f"{name}{ON_A_WORKER}",
            parent_task_run_id=UUID(parent) if parent else None,
        )
        return run.id

    def look(self, run: UUID, online: set[str]) -> State:
        """How the run does; as crashed where the worker that took it is gone, and there are others `online`."""
        found: FlowRun = self._client.read_flow_run(run)
        state = found.state or Scheduled()
        worker = found.labels.get("prefect.worker.name")
        if not state.is_final() and worker and online and worker not in online:
            state = Crashed(message=f"its worker {worker} is gone")
            self._client.set_flow_run_state(run, state, force=True)
        return state

    def stop(self, run: UUID) -> None:
        """Have its worker end it as Ctrl-C would; one that no worker took is not begun."""
        self._client.set_flow_run_state(run, Cancelling(message="the pipeline was stopped"))


def spread(graph: Graph, overview: Overview) -> Iterator[Progress]:
    """Bring each stage of `graph` up to date, a record a stage; at the end a ValueError says which failed, and why.

    Raises ValueError of one line before anything runs where there is no remote, no worker, or an uncommitted edit.
    """
    workers = Workers(revision())
    graph.fetch_runs()
    timeline, notices = Timeline(), _Notices()
    overview.states = dict.fromkeys(graph.names)
    if timeline.page:
        print(f"Prefect's page of this run: {timeline.page}", flush=True)
    waiting, out, failed, done = list(graph.names), dict[str, _Out](), dict[str, str](), set[str]()
    try:
        with passing_on_sigterm() as stopped:
            while waiting or out:
                ended: dict[str, State] = {}
                for name in [name for name in waiting if graph.upstream(name) <= done]:
                    waiting.remove(name)
                    environment = timeline.begin(name, graph.needed(name))
                    if missing := graph.upstream(name).intersection(failed):
                        ended[name] = Cancelled(name="NotRun", message=f"needs {min(missing)}, which failed")
                    elif graph.take_over(name):
                        ended[name] = Completed(name="Cached", message="up to date, or made before")
                    elif name in HERE:
                        ended[name] = _here(graph, name, environment)
                    else:
                        parent = environment.get(PARENT)
                        out[name] = _Out(workers.hand_out(name, parent), parent)
                        overview.states[name] = Scheduled(name="HandedOut")
                        print(f"{name}: handed out", flush=True)
                try:
                    online = workers.online() if out else set[str]()
                    looked = {name: workers.look(at.run, online) for name, at in out.items()}
                    notices.tell("no worker is online; waiting for one", bool(out) and not online)
                    notices.tell(UNHEARD, False)
                except httpx.HTTPError:
                    looked = {}
                    notices.tell(UNHEARD, True)
                for name, state in looked.items():
                    at = out[name]
                    if state.is_crashed() and at.attempts < ATTEMPTS:
                        print(f"{name}: {_flat(state)}; handed out again", file=sys.stderr, flush=True)
                        at.run, at.attempts = workers.hand_out(name, at.parent), at.attempts + 1
                    elif state.is_final():
                        ended[name] = _taken(graph, name) if state.is_completed() else Failed(message=_flat(state))
                for name, state in ended.items():
                    out.pop(name, None)
                    overview.states[name] = timeline.end(name, state)
                    done.add(name)
                    if state.is_failed():
                        failed[name] = _flat(state).partition(GO_ON)[0]
                    said = f"[{len(done)}/{len(graph.names)}] {name}: {_flat(state)}"
                    print(said, file=sys.stderr if state.is_failed() else sys.stdout, flush=True)
                    yield Progress(done=len(done), total=len(graph.names), unit="stages")
                if not ended:
                    time.sleep(EVERY)
                if stopped.is_set():  # a stage that ran here has saved its state
                    raise KeyboardInterrupt
    finally:
        for at in out.values():
            workers.stop(at.run)
    if failed:
        raise ValueError("; ".join(f"{name}: {reason}" for name, reason in failed.items()))


class _Notices:
    """What hinders all, said on stderr when it begins."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, notice: str, holds: bool) -> None:
        if holds and notice not in self._told:
            print(notice, file=sys.stderr, flush=True)
        (self._told.add if holds else self._told.discard)(notice)


def _taken(graph: Graph, name: str) -> State:
    """What a worker made of the stage, brought here."""
    graph.fetch_runs()
    if graph.take_over(name):
        return Completed(message="made by a worker")
    return Failed(message="a worker made it from other inputs than are here; is this checkout at the same revision?")


def _here(graph: Graph, name: str, environment: dict[str, str]) -> State:
    try:
        graph.run(name, environment or {PLAIN: "1"})
    except StageError as error:
        return Failed(message=str(error))
    return Completed(message="done")


def _flat(state: State) -> str:
    return " ".join((state.message or state.name or "").split())
