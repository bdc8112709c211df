"""The whole of a pipeline on one page of Prefect: what runs where, how far, how fast, and the pictures made last."""

import re
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_UI_URL

from flows.console import duration
from flows.show import GO_ON

FIGURE = re.compile(r"^\| (.+?) \| (.+?) \|$", re.MULTILINE)
"""A row of the table that a stage shows of itself."""
ON_A_WORKER = " on a worker"
"""The end of the name of a run in which a worker runs a stage: the stage's own run is drawn into that."""
PICTURE = re.compile(r"^after .+\n\n!\[")


class Overview:
    """A table of all stages, and the latest pictures of any, from what their runs have told the server.

    So it does not matter on which machine a stage runs. Called with the pipeline's run every few seconds.
    """

    def __init__(self) -> None:
        self.states: dict[str, State | None] = {}
        """Every stage in order, and how it ended: what needed no run is known to the pipeline alone."""
        self._last: dict[UUID, dict[str, str]] = {}
        """What ended runs show: it is read once more when they have ended, and never again."""
        self._pictures = ""

    def __call__(self, client: SyncPrefectClient, run: UUID) -> dict[str, str]:
        """Markdown by name: `stages`, and `pictures` once there are any."""
        runs = _within(client, [run])
        handed_out = [stage.id for stage in runs if (stage.name or "").endswith(ON_A_WORKER)]
        if handed_out:
            runs = [*runs, *_within(client, handed_out)]
        started = {(stage.name or "").replace(" ", "@"): stage for stage in runs}
        head = ["| stage | state | where | done | rate | time left | loss | took |", f"|{' --- |' * 8}"]
        rows = [self._row(client, name, state, started.get(name)) for name, state in list(self.states.items())]
        if not rows:
            return {}
        return {"stages": "\n".join(head + rows)} | ({"pictures": self._pictures} if self._pictures else {})

    def _row(self, client: SyncPrefectClient, name: str, known: State | None, run: FlowRun | None) -> str:
        state = run.state if run else known
        said = (state.name or "") if state else "to come"
        if state and (state.is_failed() or state.is_crashed() or state.is_cancelled()):
            said += f": {(state.message or '').partition(GO_ON)[0]}"
        if run is None:
            return f"| {name} | {said} | | | | | | |"
        figures = self._last.get(run.id) or self._figures(client, name, run)
        if run.state and run.state.is_final():
            self._last[run.id] = figures
        done = next((f"{value} {unit}" for unit, value in figures.items() if " of " in value), "")
        left = "" if state and state.is_final() else figures.get("time left", "")
        took = duration(run.total_run_time.total_seconds() or run.estimated_run_time.total_seconds())
        link = f"[{name}]({PREFECT_UI_URL.value()}/runs/flow-run/{run.id})"
        rate, loss = figures.get("throughput", ""), figures.get("loss", "")
        cells = [link, said, " ".join(run.tags), done, rate, left, loss, took]
        return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"

    def _figures(self, client: SyncPrefectClient, name: str, run: FlowRun) -> dict[str, str]:
        """What the run of a stage shows in its table; its pictures are kept, too."""
        mine = {"artifacts": {"flow_run_id": {"any_": [str(run.id)]}}, "sort": "CREATED_DESC"}
        found = client.request("POST", "/artifacts/filter", json=mine).json()  # read_artifacts sends nulls: refused
        texts = {shown["key"]: str(shown["data"]) for shown in found}
        pictures = [text for text in texts.values() if PICTURE.match(text)]
        if pictures:
            self._pictures = "\n\n".join([f"**{name}**", *pictures])
        return next((dict(FIGURE.findall(text)) for key, text in texts.items() if key.endswith("-figures")), {})


def _within(client: SyncPrefectClient, runs: list[UUID]) -> list[FlowRun]:
    """The runs that are drawn into one of `runs`, the newest last."""
    parent = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=runs))
    return client.read_flow_runs(flow_run_filter=parent, sort=FlowRunSort.START_TIME_DESC, limit=200)[::-1]
