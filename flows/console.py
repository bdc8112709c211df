"""How far a stage is, on stderr: one line that moves on a terminal, a line now and then in a log."""

import sys
import time
from collections import deque
from collections.abc import Iterator

from ldm.progress import Progress


class Pace:
    """Units a second over the last minute, from differences: a resumed stage does not count what it found done."""

    def __init__(self, window: float = 60.0) -> None:
        self._window = window
        self._points: deque[tuple[float, int]] = deque()

    def at(self, progress: Progress) -> tuple[float | None, float | None]:
        """Units a second and seconds left, or None where nothing can be said yet."""
        now = time.monotonic()
        if self._points and progress.done < self._points[-1][1]:
            self._points.clear()
        self._points.append((now, progress.done))
        while len(self._points) > 2 and now - self._points[0][0] > self._window:
            self._points.popleft()
        (then, before), (_, done) = self._points[0], self._points[-1]
        if done == before or now == then:
            return None, None
        rate = (done - before) / (now - then)
        return rate, max(0, progress.total - done) / rate


def told(label: str, records: Iterator[Progress], every: float | None = None) -> Iterator[Progress]:
    """The same records, with a line about them on stderr at most `every` so many seconds (a terminal .2, a log 15).

    Their notes are told at once, each on a line of its own; and how far it came in one unit before it goes on in
    another.
    """
    terminal = sys.stderr.isatty()
    every = every if every is not None else (0.2 if terminal else 15.0)
    pace, spoken, last, said, unit = Pace(), time.monotonic(), "", "", ""
    try:
        for progress in records:
            for note in progress.notes:
                print(f"\n{label}: {note}" if terminal and last else f"{label}: {note}", file=sys.stderr, flush=True)
            if progress.unit != unit and last != said:
                _say(last, terminal)
            unit = progress.unit
            last = line(label, progress, *pace.at(progress))
            if time.monotonic() - spoken >= every:
                _say(last, terminal)
                spoken, said = time.monotonic(), last
            yield progress
    finally:
        if last != said:
            _say(last, terminal)
        if last and terminal:
            print(file=sys.stderr)


def line(label: str, progress: Progress, rate: float | None, left: float | None) -> str:
    parts = [label, f"{progress.done}/{progress.total} {progress.unit}"]
    if rate is not None and left is not None:
        parts += [f"{rate:.3g} {progress.unit}/s", f"{duration(left)} left"]
    return "  ".join(parts + [f"{name} {value:.4g}" for name, value in progress.scalars.items()])


def duration(seconds: float) -> str:
    """
    >>> duration(3725)
    '1:02:05'
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _say(text: str, terminal: bool) -> None:
    if terminal:
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)
