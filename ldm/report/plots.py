"""Drawing PNG files, curves of a history among them, whose bytes depend on the numbers alone."""

from collections.abc import Callable, Sequence
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
    text: str
    rule: str
    raw: str
    smooth: str
    lines: tuple[str, ...]
    """Told apart by those who see colours otherwise as well; each line has a marker of its own besides."""


LIGHT = Theme(
    ink="#55585d",
    text="#1d1e20",
    rule="#dcdad5",
    raw="#b9cbdc",
    smooth="#2b5c8a",
    lines=("#2b5c8a", "#c2571a", "#2f8f6b", "#8a4f9e", "#a67c00", "#4a4d52"),
)
DARK = Theme(
    ink="#a3a6ac",
    text="#e3e2df",
    rule="#34373c",
    raw="#35506a",
    smooth="#8fb8de",
    lines=("#8fb8de", "#f0955c", "#74c9a7", "#c9a0dc", "#e0bd55", "#c3c6cb"),
)


def scalars_to_draw(names: Sequence[str]) -> list[str]:
    """The scalars of a history that a reader wants to see, the loss first."""
    shown = [name for name in names if name not in HIDDEN]
    return sorted(shown, key=lambda name: (name != "loss", list(names).index(name)))


def curve(points: Sequence[tuple[int, float]], title: str, theme: Theme) -> bytes:
    """One scalar over steps as a PNG: the values as they were, and over them their running mean."""
    steps, values = (np.array(column, dtype=float) for column in zip(*points, strict=True))

    def draw(axes: Any) -> None:
        axes.set_title(title, loc="left")
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if spans_decades(values):
            axes.set_yscale("log")
        axes.plot(steps, values, color=theme.raw, linewidth=1, marker="." if len(steps) < 30 else None)
        axes.plot(*_running_mean(steps, values), color=theme.smooth, linewidth=1.7)
        axes.margins(x=0.02)

    return drawing(draw, theme, size=(4.0, 2.5), place=(0.11, 0.17, 0.87, 0.73))


def drawing(
    draw: Callable[[Any], None],
    theme: Theme,
    *,
    size: tuple[float, float],
    place: tuple[float, float, float, float],
) -> bytes:
    """A PNG of `size` inches with what `draw` puts on its axes, which lie at `place` in parts of the whole."""
    style: Any = _style(theme)  # matplotlib types its keys as literals
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever a matplotlibrc on this machine says
        matplotlib.rcParams.update(style)
        figure = Figure(figsize=size, dpi=160)
        draw(figure.add_axes(place))
        buffer = BytesIO()
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def spans_decades(values: Sequence[float] | np.ndarray) -> bool:
    """Whether the values are better looked at on a logarithmic axis."""
    return bool(min(values) > 0 and max(values) > 30 * min(values))


def _running_mean(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    window = max(1, len(values) // 25)
    means = np.convolve(values, np.ones(window) / window, mode="valid")
    return steps[(window - 1) // 2 :][: len(means)], means


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
