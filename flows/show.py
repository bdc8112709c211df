"""A stage in the Prefect UI: a run named after stage and name, with progress, pace, scalars and the latest pictures.

Tags say where it runs, its log how far it is and why it failed, and what command goes on. Only
shows: it is left out of every stage's dependencies, and a test holds that a stage writes the same bytes without it. A
server that is slow, or gone, neither stops nor slows a stage: another thread speaks to it, and what it cannot say is
dropped.
"""

import base64
import io
import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from datetime import UTC, datetime
from pathlib import Path
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

from flows.console import Pace, duration, line
from flows.record import processor
from flows.server import LOCAL_SERVER, answers, temporary
from ldm.progress import Progress

PARENT = "FLOWS_PARENT_TASK_RUN"
"""Environment variable that holds the id of the task run on whose timeline this stage is drawn."""
GO_ON = "; go on: "
"""In the message of a run that failed or was stopped, between the reason and the command that goes on."""
More = Callable[[SyncPrefectClient, UUID], Mapping[str, str]]
"""What else a run shows: markdown by name, asked for every few seconds."""


def in_prefect(
    stage: str,
    label: str,
    records: Iterator[Progress],
    explain: Callable[[BaseException], str],
    *,
    again: str,
    device: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    more: More | None = None,
) -> None:
    """Go through all `records` inside a Prefect flow run called `label`, and raise what they raise.

    The run shows `parameters`, and ends as failed with `explain(error)` and the command `again` as its message. Trouble
    with Prefect is said on stderr, and the records go on.
    """
    raised: list[BaseException] = []

    def body() -> State:
        state, error = shown_here(label, records, explain, again=again, device=device, more=more)
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
    label: str,
    records: Iterator[Progress],
    explain: Callable[[BaseException], str],
    *,
    again: str,
    device: str | None = None,
    more: More | None = None,
) -> tuple[State, BaseException | None]:
    """Go through all `records` and show them in the current flow run; the state it ends in, and what they raised.

    `device` is what it computes on, None where that is left to others; `more` is what else to show, and says that the
    units do not take the same time each.
    """
    with Display(label, device, more) as display:
        try:
            for progress in records:
                display.show(progress)
        except (KeyboardInterrupt, TerminationSignal):
            stopped = KeyboardInterrupt()
            display.ended(explain(stopped), again, logging.WARNING)
            return Cancelled(message=f"{explain(stopped)}{GO_ON}{again}"), stopped
        except Exception as error:
            display.ended(explain(error), again, logging.ERROR)
            return Failed(message=f"{explain(error)}{GO_ON}{again}"), error
    return Completed(message=display.summary), None


def using_server() -> AbstractContextManager[Any]:
    """Settings with the server that answers: the configured one, else a local one, else one for this process."""
    if PREFECT_API_URL.value():
        return nullcontext()
    return temporary_settings({PREFECT_API_URL: LOCAL_SERVER if answers(LOCAL_SERVER) else temporary()})


class Display:
    """Artifacts of the current flow run, brought up to date in place by a thread, once in `every` seconds at most.

    And its log, with a line about its progress every `spoken` seconds. `more` and `device` as in `shown_here`.
    """

    def __init__(
        self, label: str, device: str | None, more: More | None = None, every: float = 1.5, spoken: float = 15
    ) -> None:
        self._label, self._device, self._more, self._every, self._spoken = label, device, more, every, spoken
        self._key = "".join(c if c.isalnum() else "-" for c in label.lower())
        self._pace, self._history = Pace(), History()
        self._latest: Progress | None = None
        self._said, self._logged = "", 0.0
        self._figures: dict[str, str] = {}
        self._pictures: dict[str, tuple[Image.Image, str]] = {}
        self._notes: list[str] = []
        self._log: list[dict[str, Any]] = []
        self._failure, self._tagged = "", False
        self._artifacts: dict[str, tuple[UUID, Any]] = {}
        self._stop, self._news, self._lock = threading.Event(), threading.Event(), threading.Lock()
        # In this context, which holds the settings: for a thread without, Prefect would start another server.
        self._thread = threading.Thread(target=copy_context().run, args=(self._speak,), daemon=True)
        context = FlowRunContext.get()
        self._run = context.flow_run if context else None
        self._api = str(PREFECT_API_URL.value())
        self.summary = ""

    def __enter__(self) -> "Display":
        place = ", ".join(filter(None, [platform.node(), self._device]))
        self._tell(logging.INFO, f"runs on {place}: process {os.getpid()} in {Path.cwd()}")
        self._news.set()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._tell_progress()
        self._stop.set()
        self._news.set()
        self._thread.join(timeout=5)

    def show(self, progress: Progress) -> None:
        """Note `progress`; costs microseconds, for the thread does the rest."""
        rate, left = (None, None) if self._more else self._pace.at(progress)
        with self._lock:
            self._latest = progress
            self._history.add(progress)
            self.summary = f"{progress.done} of {progress.total} {progress.unit}"
            self._said = line(self._label, progress, rate, left)
            for note in progress.notes:
                self._tell(logging.INFO if self._more else logging.WARNING, note)
            self._notes += progress.notes
            for name, picture in progress.pictures.items():
                self._pictures[name] = picture, self.summary
            self._figures[progress.unit] = f"{progress.done} of {progress.total}"
            if rate is not None and left is not None:
                self._figures |= {"throughput": f"{rate:.3g} {progress.unit}/s", "time left": duration(left)}
            self._figures |= {name: f"{value:.5g}" for name, value in progress.scalars.items()}
            if time.monotonic() - self._logged >= self._spoken:
                self._tell_progress()
        self._news.set()

    def ended(self, reason: str, again: str, level: int) -> None:
        """Say why it ended before its end, and the command that goes on."""
        with self._lock:
            self._tell_progress()
            self._tell(level, reason)
            self._tell(level, f"to go on: {again}")
            self._failure = f"{reason}\n\nTo go on, in `{Path.cwd()}` on {platform.node()}:\n\n```\n{again}\n```"

    def _tell_progress(self) -> None:
        if self._said and not self._more:
            self._tell(logging.INFO, self._said)
        self._said, self._logged = "", time.monotonic()

    def _tell(self, level: int, text: str) -> None:
        self._log.append(
            {"name": self._label, "level": level, "message": text, "timestamp": datetime.now(UTC).isoformat()}
        )

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
                self._news.wait(2 * self._every if self._more else None)
                self._news.clear()

    def _send(self, client: SyncPrefectClient) -> None:
        with self._lock:
            progress, pictures = self._latest, dict(self._pictures)
            log = list(self._log)
            table, chart = self._table(), self._history.chart()
            notes = "" if self._more else "\n".join(f"- {note}" for note in self._notes)
        if self._run and not self._tagged:
            tags = [*self._run.tags, platform.node(), *([self._device] if self._device else [])]
            client.update_flow_run(self._run.id, tags=list(dict.fromkeys(tags)))
            self._tagged = True
        if self._run and log:
            client.create_logs({**entry, "flow_run_id": str(self._run.id)} for entry in log)
            with self._lock:
                del self._log[: len(log)]
        if self._failure:
            self._put(client, "failure", "markdown", self._failure)
        if self._more and self._run:
            for name, text in self._more(client, self._run.id).items():
                self._put(client, name, "markdown", text)
        if progress is None:
            return
        self._put(client, "progress", "progress", 100.0 * progress.done / max(1, progress.total))
        if notes:
            self._put(client, "notes", "markdown", notes)
        if not self._more:
            self._put(client, "figures", "markdown", f"{table}\n\n![scalars]({data_url(chart)})" if chart else table)
        for name, (picture, when) in pictures.items():
            self._put(client, name, "markdown", f"after {when}\n\n![{name}]({data_url(enlarged(picture))})")
            with self._lock:  # only now, for a server that is away gets it later; a newer one may have come meanwhile
                if self._pictures[name] == (picture, when):
                    del self._pictures[name]

    def _table(self) -> str:
        where = f"{platform.node()}, {self._device} ({processor(self._device)})"
        figures = {"where": where, **self._figures} if self._device else self._figures
        return "\n".join(["| figure | now |", "| --- | --- |", *(f"| {name} | {figures[name]} |" for name in figures)])

    def _put(self, client: SyncPrefectClient, name: str, kind: str, data: Any) -> None:
        if name not in self._artifacts:
            key = f"{self._key}-{''.join(c if c.isalnum() else '-' for c in name.lower())}"
            made = client.create_artifact(
                ArtifactCreate(
                    key=key,
                    type=kind,
                    description=f"{self._label}: {name}",
                    data=data,
                    flow_run_id=self._run.id if self._run else None,
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
