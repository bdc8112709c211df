"""A stage in the Prefect UI: a run named after stage and name, with progress, pace, scalars and the latest pictures.

Only shows: it is left out of every stage's dependencies, and a test holds that a stage writes the same bytes without
it. A server that is slow, or gone, neither stops nor slows a stage: another thread speaks to it, and what it cannot say
is dropped.
"""

import base64
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from typing import Any
from uuid import UUID

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # else it contends for the database and logs so
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")  # its troubles are said here, in one line
os.environ.setdefault("PREFECT_LOGGING_TO_API_ENABLED", "false")
os.environ.setdefault("PREFECT_API_REQUEST_TIMEOUT", "10")
os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "1")

from PIL import Image, ImageDraw
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Completed, Failed, Pending

from flows.console import Pace, duration
from flows.server import LOCAL_SERVER, answers, temporary
from ldm.progress import Progress

PARENT = "FLOWS_PARENT_TASK_RUN"
"""Environment variable that holds the id of the task run on whose timeline this stage is drawn."""


def in_prefect(
    stage: str,
    label: str,
    records: Iterator[Progress],
    explain: Callable[[BaseException], str],
    *,
    parameters: Mapping[str, Any] | None = None,
    paced: bool = True,
) -> None:
    """Go through all `records` inside a Prefect flow run called `label`, and raise what they raise.

    The run shows `parameters`, and ends as failed with `explain(error)` as its message. Trouble with Prefect is said on
    stderr, and the records go on.
    """
    raised: list[BaseException] = []

    def body() -> State:
        state, error = shown_here(label, records, explain, paced=paced)
        raised.extend([error] if error else [])
        return state

    try:
        with using_server(), get_client(sync_client=True) as client:
            stage_flow = flow(name=stage)(body)
            parent = os.environ.get(PARENT)
            run = client.create_flow_run(
                stage_flow,
                parameters=dict(parameters or {}),
                state=Pending(),
                name=label,
                parent_task_run_id=UUID(parent) if parent else None,
            )
            # The parameters are there to be seen: whoever made the records has used them.
            run_flow(stage_flow, flow_run=run.model_copy(update={"parameters": {}}), return_type="state")
    except Exception as trouble:
        print(f"{label}: goes on without Prefect: {' '.join(str(trouble).split())}", file=sys.stderr)
    if raised:
        raise raised[0]
    for _ in records:  # all of them, where Prefect could not even begin
        pass


def shown_here(
    label: str, records: Iterator[Progress], explain: Callable[[BaseException], str], *, paced: bool = True
) -> tuple[State, BaseException | None]:
    """Go through all `records` and show them in the current flow run; the state it ends in, and what they raised."""
    with Display(label, paced) as display:
        try:
            for progress in records:
                display.show(progress)
        except (KeyboardInterrupt, TerminationSignal):
            stopped = KeyboardInterrupt()
            return Cancelled(message=explain(stopped)), stopped
        except Exception as error:
            return Failed(message=explain(error)), error
    return Completed(message=display.summary), None


def using_server() -> AbstractContextManager[Any]:
    """Settings with the server that answers: the configured one, else a local one, else one for this process."""
    if PREFECT_API_URL.value():
        return nullcontext()
    return temporary_settings({PREFECT_API_URL: LOCAL_SERVER if answers(LOCAL_SERVER) else temporary()})


class Display:
    """Artifacts of the current flow run, brought up to date in place by a thread, once in `every` seconds at most.

    `paced` says that the units take about the same time each, so that past ones tell how long the rest will take.
    """

    def __init__(self, label: str, paced: bool = True, every: float = 1.5) -> None:
        self._label, self._paced, self._every = label, paced, every
        self._key = "".join(c if c.isalnum() else "-" for c in label.lower())
        self._pace, self._history = Pace(), History()
        self._latest: Progress | None = None
        self._figures: dict[str, str] = {}
        self._pictures: dict[str, tuple[Image.Image, str]] = {}
        self._notes: list[str] = []
        self._artifacts: dict[str, tuple[UUID, Any]] = {}
        self._stop, self._news, self._lock = threading.Event(), threading.Event(), threading.Lock()
        # In this context, which holds the settings: for a thread without, Prefect would start another server.
        self._thread = threading.Thread(target=copy_context().run, args=(self._speak,), daemon=True)
        context = FlowRunContext.get()
        self._run = context.flow_run.id if context and context.flow_run else None
        self._api = str(PREFECT_API_URL.value())
        self.summary = ""

    def __enter__(self) -> "Display":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._news.set()
        self._thread.join(timeout=5)

    def show(self, progress: Progress) -> None:
        """Note `progress`; costs microseconds, for the thread does the rest."""
        rate, left = self._pace.at(progress)
        with self._lock:
            self._latest = progress
            self._history.add(progress)
            self.summary = f"{progress.done} of {progress.total} {progress.unit}"
            self._notes += progress.notes
            for name, picture in progress.pictures.items():
                self._pictures[name] = picture, self.summary
            self._figures[progress.unit] = f"{progress.done} of {progress.total}"
            if self._paced and rate is not None and left is not None:
                self._figures |= {"throughput": f"{rate:.3g} {progress.unit}/s", "time left": duration(left)}
            self._figures |= {name: f"{value:.5g}" for name, value in progress.scalars.items()}
        self._news.set()

    def _speak(self) -> None:
        silent = False
        with SyncPrefectClient(self._api) as client:
            while True:
                last = self._stop.is_set()
                try:
                    self._send(client)
                    silent = False
                except Exception as trouble:
                    if not silent:  # what is new is tried until a server is back, and said once
                        print(f"{self._label}: not shown in Prefect: {' '.join(str(trouble).split())}", file=sys.stderr)
                    silent = True
                if last:
                    return
                self._stop.wait(self._every)
                self._news.wait()
                self._news.clear()

    def _send(self, client: SyncPrefectClient) -> None:
        with self._lock:
            progress, pictures, self._pictures = self._latest, self._pictures, {}
            if progress is None:
                return
            table, chart = self._table(), self._history.chart()
            notes = "\n".join(f"- {note}" for note in self._notes)
        percent = 100.0 * progress.done / max(1, progress.total)
        self._put(client, "progress", "progress", percent)
        if notes:
            self._put(client, "notes", "markdown", notes)
        self._put(client, "figures", "markdown", f"{table}\n\n![scalars]({data_url(chart)})" if chart else table)
        for name, (picture, when) in pictures.items():
            self._put(client, name, "markdown", f"after {when}\n\n![{name}]({data_url(enlarged(picture))})")

    def _table(self) -> str:
        return "\n".join(
            ["| figure | now |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in self._figures.items())]
        )

    def _put(self, client: SyncPrefectClient, name: str, kind: str, data: Any) -> None:
        if name not in self._artifacts:
            key = f"{self._key}-{''.join(c if c.isalnum() else '-' for c in name.lower())}"
            made = client.create_artifact(
                ArtifactCreate(
                    key=key, type=kind, description=f"{self._label}: {name}", data=data, flow_run_id=self._run
                )
            )
            self._artifacts[name] = made.id, data
        elif self._artifacts[name][1] != data:
            client.update_artifact(self._artifacts[name][0], ArtifactUpdate(data=data))
            self._artifacts[name] = self._artifacts[name][0], data


class History:
    """Scalars over the run, thinned by half whenever they are many."""

    def __init__(self, most: int = 600) -> None:
        self._most = most
        self._points: dict[str, list[tuple[int, float]]] = {}

    def add(self, progress: Progress) -> None:
        for name, value in progress.scalars.items():
            points = self._points.setdefault(name, [])
            points.append((progress.done, value))
            if len(points) > self._most:
                self._points[name] = points[::2]

    def chart(self, width: int = 640, height: int = 120) -> Image.Image | None:
        """One small line chart for each scalar, below each other, each on its own scale."""
        drawable = {name: points for name, points in self._points.items() if len(points) > 1}
        if not drawable:
            return None
        image = Image.new("RGB", (width, height * len(drawable)), "white")
        draw = ImageDraw.Draw(image)
        for row, (name, points) in enumerate(drawable.items()):
            self._line(draw, points, (0, row * height, width, (row + 1) * height))
            low, high = min(v for _, v in points), max(v for _, v in points)
            draw.text((6, row * height + 4), f"{name}   {low:.4g} to {high:.4g}, now {points[-1][1]:.4g}", fill="black")
        return image

    def _line(self, draw: ImageDraw.ImageDraw, points: list[tuple[int, float]], box: tuple[int, int, int, int]) -> None:
        left, top, right, bottom = box[0] + 6, box[1] + 22, box[2] - 6, box[3] - 6
        first, last = points[0][0], max(points[-1][0], points[0][0] + 1)
        low, high = min(v for _, v in points), max(v for _, v in points)
        place: Mapping[int, tuple[float, float]] = {
            step: (
                left + (right - left) * (step - first) / (last - first),
                bottom - (bottom - top) * ((value - low) / (high - low) if high > low else 0.5),
            )
            for step, value in points
        }
        draw.rectangle((left, top, right, bottom), outline="#dddddd")
        draw.line(list(place.values()), fill="#1f77b4", width=2)


def enlarged(image: Image.Image, width: int = 900) -> Image.Image:
    """`image` a whole number of times larger, as near to `width` as that gets: small pictures are hard to see."""
    times = max(1, width // image.width)
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
