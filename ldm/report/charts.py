"""Charts of several models, and grids, as PNG files whose bytes depend on the numbers alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ldm.report.plots import Theme, drawing, spans_decades

MARKERS = "osD^vPX*"


@dataclass(frozen=True, kw_only=True)
class Point:
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    """The 95 % interval of y, where there is one."""

    def at(self, x: float) -> "Point":
        return replace(self, x=x)


@dataclass(frozen=True, kw_only=True)
class Line:
    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Level:
    """What every point of a chart is to be held against: a distance between real pictures."""

    name: str
    value: float
    written: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A line a model; `name` is that of its files."""

    name: str
    title: str
    x: str
    lines: tuple[Line, ...]
    levels: tuple[Level, ...] = ()
    """At most two, drawn as thin lines across."""
    log_x: bool
    caption: str

    @property
    def alt(self) -> str:
        """Its numbers in words."""
        lines = [f"{line.name}: " + ", ".join(f"{p.y:.4g} at {p.x:.4g}" for p in line.points) for line in self.lines]
        levels = [f"{level.name}: {level.written}" for level in self.levels]
        return f"{self.title} over {self.x}. {'; '.join([*lines, *levels])}"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A figure for each guidance (rows) and number of sampling steps (columns)."""

    name: str
    title: str
    rows: tuple[float, ...]
    columns: tuple[int, ...]
    values: Mapping[tuple[float, float], float]
    levels: tuple[Level, ...] = ()
    pattern: str
    lower: bool
    """Whether lower values are better."""

    @property
    def against(self) -> str:
        return ", ".join(f"{level.name} {level.written}" for level in self.levels)

    @property
    def alt(self) -> str:
        return f"{self.title}: guidance down, sampling steps across; the numbers stand in the table below"


def draw_chart(chart: Chart, theme: Theme) -> bytes:
    def draw(axes: Any) -> None:
        axes.set_title(chart.title, loc="left")
        axes.set_xlabel(chart.x)
        for i, line in enumerate(chart.lines):
            x, y = [p.x for p in line.points], [p.y for p in line.points]
            colour = theme.lines[i % len(theme.lines)]
            axes.plot(
                x, y, color=colour, marker=MARKERS[i % len(MARKERS)], markersize=4, linewidth=1.5, label=line.name
            )
            for p in line.points:
                if p.low is not None and p.high is not None:
                    axes.plot([p.x, p.x], [p.low, p.high], color=colour, linewidth=1, alpha=0.6)
        every = [p for line in chart.lines for p in line.points]
        if chart.log_x and min(p.x for p in every) > 0:
            axes.set_xscale("log")
            plain = FuncFormatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_major_formatter(plain)
            axes.xaxis.set_minor_formatter(plain if max(p.x for p in every) < 10 * min(p.x for p in every) else "")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        if spans_decades([*(p.y for p in every), *(level.value for level in chart.levels)]):
            axes.set_yscale("log")
        for level, style in zip(chart.levels, ("--", ":"), strict=False):
            words = f"{level.name} {level.written}"
            axes.axhline(level.value, color=theme.ink, linewidth=0.8, linestyle=style, label=words)
        legend = axes.legend(frameon=False, labelcolor=theme.ink, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        legend.set_in_layout(False)

    return drawing(draw, theme, size=(7.2, 3.6), place=(0.09, 0.14, 0.62, 0.76))


def draw_grid(grid: Grid, theme: Theme) -> bytes:
    low, high = min(grid.values.values()), max(grid.values.values())

    def draw(axes: Any) -> None:
        axes.set_title(grid.title, loc="left")
        axes.set_xlabel(f"sampling steps; between real pictures: {grid.against}" if grid.levels else "sampling steps")
        axes.set_ylabel("guidance")
        axes.set_xticks(range(len(grid.columns)), [str(count) for count in grid.columns])
        axes.set_yticks(range(len(grid.rows)), [f"{guidance:g}" for guidance in grid.rows])
        axes.grid(visible=False)
        axes.set_xlim(-0.5, len(grid.columns) - 0.5)
        axes.set_ylim(-0.5, len(grid.rows) - 0.5)
        for (guidance, count), value in grid.values.items():
            place = grid.columns.index(int(count)), grid.rows.index(guidance)
            part = (value - low) / (high - low) if high > low else 1.0
            good = 1 - part if grid.lower else part
            axes.add_patch(_square(place, theme, 0.1 + 0.5 * good))
            axes.text(*place, grid.pattern.format(value), ha="center", va="center", color=theme.text)

    height = 1.1 + 0.42 * len(grid.rows)
    return drawing(draw, theme, size=(7.2, height), place=(0.09, 0.5 / height, 0.62, 1 - 0.9 / height))


def _square(place: tuple[int, int], theme: Theme, alpha: float) -> Any:
    return Rectangle((place[0] - 0.48, place[1] - 0.46), 0.96, 0.92, color=theme.smooth, alpha=alpha, linewidth=0)
