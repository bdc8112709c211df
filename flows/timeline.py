"""The stages of a pipeline on the page of its Prefect run: an entry each, into which the stage's own run is drawn."""

import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from uuid import UUID

from prefect import Task
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentTaskRunId
from prefect.client.schemas.objects import State, TaskRunResult
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, PREFECT_UI_URL, temporary_settings
from prefect.states import Crashed, Running

from flows.show import GO_ON, PARENT

T = TypeVar("T")


class Timeline:
    """An entry (a task run) a stage on the page of the current flow run; the run of a stage's process is drawn into it.

    Outside a flow run it does nothing. Trouble with Prefect is said on stderr, and that entry is not shown.
    """

    def __init__(self) -> None:
        context = FlowRunContext.get()
        self._run = context.flow_run.id if context and context.flow_run else None
        self._client = SyncPrefectClient(str(PREFECT_API_URL.value())) if context else None
        self._entries: dict[str, UUID] = {}
        self.page = f"{PREFECT_UI_URL.value()}/runs/flow-run/{self._run}" if self._run else ""

    def begin(self, name: str, after: Iterable[str]) -> dict[str, str]:
        """An entry `name`, drawn after those it needs; what is to stand in the environment of its process."""

        def create(client: SyncPrefectClient) -> dict[str, str]:
            needs: list[Any] = [TaskRunResult(id=self._entries[n]) for n in after if n in self._entries]
            entry = promptly(
                lambda: client.create_task_run(
                    Task(fn=create, name=name), self._run, dynamic_key=name, name=name, state=Running(),
                    task_inputs={"after": needs},
                )
            )  # fmt: skip
            self._entries[name] = entry.id
            return {PARENT: str(entry.id), "PREFECT_API_URL": str(client.api_url)}

        return self._aside(name, create) or {}

    def end(self, name: str, state: State) -> State:
        """The entry ends in `state`, where the run of its process has not said how it ended; how it did.

        The run of a process that was killed cannot say so: it is shown as crashed.
        """

        def end(client: SyncPrefectClient) -> State:
            shown = client.read_task_run(self._entries[name]).state
            if shown and shown.is_final():
                return shown
            client.set_task_run_state(self._entries[name], state, force=True)
            entry = FlowRunFilterParentTaskRunId(any_=[self._entries[name]])
            drawn = FlowRunFilter(parent_task_run_id=entry)
            for run in client.read_flow_runs(flow_run_filter=drawn, sort=FlowRunSort.START_TIME_DESC, limit=1):
                if run.state and not run.state.is_final():
                    message = f"{state.message}{GO_ON}dvc repro {name}"
                    client.set_flow_run_state(run.id, Crashed(message=message), force=True)
            return state

        return (self._aside(name, end) if name in self._entries else None) or state

    def _aside(self, name: str, call: Callable[[SyncPrefectClient], T]) -> T | None:
        try:
            return call(self._client) if self._client else None
        except Exception as trouble:
            print(f"{name}: not shown in Prefect: {' '.join(str(trouble).split())}", file=sys.stderr)
            return None


def promptly(call: Callable[[], T]) -> T:
    """What `call` returns; again after a moment where Prefect's SQLite was being written to.

    The server refuses then at once, and left alone its client waits two seconds.
    """
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        for pause in (0.05, 0.1, 0.2, 0.4, 0.8):
            try:
                return call()
            except PrefectHTTPStatusError as refusal:
                if refusal.response.status_code != 503:
                    raise
                time.sleep(pause)
        return call()
