"""Curves of a history as PNG files whose bytes depend on the numbers alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

HIDDEN = ("lr", "gradient_norm", "adaptive_weight", "val_rec", *(f"loss_t{part}" for part in range(10)))
"""Scalars for whoever mends a training, who finds them in history.csv."""


@dataclass(frozen=True, kw_only=True)
class Theme:
    ink: str
    rule: str
    raw: str
    smooth: str


LIGHT = Theme(ink="#55585d", rule="#dcdad5", raw="#b9cbdc", smooth="#2b5c8a")
DARK = Theme(ink="#a3a6ac", rule="#34373c", raw="#35506a", smooth="#8fb8de")


def scalars_to_draw(names: Sequence[str]) -> list[str]:
    """The scalars of a history that a reader wants to see, the loss first."""
    shown = [name for name in names if name not in HIDDEN]
    return sorted(shown, key=lambda name: (name != "loss", list(names).index(name)))


def curve(points: Sequence[tuple[int, float]], title: str, theme: Theme) -> bytes:
    """One scalar over steps as a PNG: the values as they were, and over them their running mean."""
    steps, values = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    style: Any = _style(theme)  # matplotlib types its keys as literals
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever a matplotlibrc on this machine says
        matplotlib.rcParams.update(style)
        figure = Figure(figsize=(4.0, 2.5), dpi=160)
        axes: Any = figure.add_axes((0.11, 0.17, 0.87, 0.73))
        axes.set_title(title, loc="left")
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if _spans_decades(values):
            axes.set_yscale("log")
        axes.plot(steps, values, color=theme.raw, linewidth=1, marker="." if len(steps) < 30 else None)
        axes.plot(*_running_mean(steps, values), color=theme.smooth, linewidth=1.7)
        axes.margins(x=0.02)
        buffer = BytesIO()
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _running_mean(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    window = max(1, len(values) // 25)
    means = np.convolve(values, np.ones(window) / window, mode="valid")
    return steps[(window - 1) // 2 :][: len(means)], means


def _spans_decades(values: np.ndarray) -> bool:
    return bool(np.all(values > 0) and values.max() > 30 * values.min())


def _style(theme: Theme) -> dict[str, Any]:
    return {
        "font.family": "DejaVu Sans",  # ships with matplotlib: the same glyphs everywhere
        "font.size": 8.5,
        "axes.titlesize": 9.5,
        "axes.titlecolor": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.edgecolor": theme.rule,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": theme.rule,
        "grid.linewidth": 0.6,
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "ytick.minor.size": 0,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
    }
