"""Quality against what it costs: over training steps, over throughput, and over guidance and sampling steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ldm.report.charts import Chart, Grid, Level, Line, Point
from ldm.report.collect import Metrics, Results, Samples
from ldm.report.figures import intervals
from ldm.report.names import LOWER, REAL, head_of, name_of
from ldm.report.paper import keys_of
from ldm.report.rates import machine
from ldm.report.tables import Cell, Row, Table

QUALITY = ("fid", "fd", "is")
"""Families of the figures that are drawn."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A figure of samples of a model, with what it may depend on."""

    model: str
    samples: Samples
    figure: Point
    """The figure's value and interval; x is set by the chart."""
    levels: tuple[Level, ...]
    """The same distance between real pictures."""
    steps: int
    """Of training, of the weights that were sampled."""
    num_steps: int
    guidance: float
    rest: str
    """Everything else that was chosen for sampling."""

    @property
    def evaluations(self) -> int:
        """Of the network, for one picture."""
        return self.num_steps * (2 if self.guidance != 1 else 1)


def charts(results: Results) -> list[Chart]:
    """Quality over training and over throughput, for each reference and figure of which there are enough points."""
    made = []
    for reference, key, points in _by_figure(results):
        made += [
            chart for chart in (_training(reference, key, points), _speed(reference, key, points, results)) if chart
        ]
    return made


def grids(results: Results) -> list[Grid]:
    """Guidance against sampling steps, for each model that was sampled with several of each."""
    made: list[Grid] = []
    for reference, key, points in _by_figure(results):
        for model, rest in dict.fromkeys((p.model, p.rest) for p in points if _is_final(p)):
            cells = {
                (p.guidance, p.num_steps): p for p in points if _is_final(p) and (p.model, p.rest) == (model, rest)
            }
            guidances, steps = (tuple(sorted({place[axis] for place in cells})) for axis in (0, 1))
            if len(guidances) > 1 and len(steps) > 1:
                made.append(
                    Grid(
                        name=f"guidance-{len(made) + 1}-{model}-{key}",
                        title=f"{model}: {head_of(key)} against {reference}",
                        rows=tuple(float(guidance) for guidance in guidances),
                        columns=tuple(int(count) for count in steps),
                        values={place: point.figure.y for place, point in cells.items()},
                        levels=_shared(list(cells.values())),
                        pattern=name_of(key).pattern,
                        lower=name_of(key).better == LOWER,
                    )
                )
    return made


def grid_table(grid: Grid) -> Table:
    """The grid's numbers, for those who do not see its picture."""

    def cell(guidance: float, steps: int) -> Cell | None:
        value = grid.values.get((guidance, steps))
        return None if value is None else Cell(value=grid.pattern.format(value))

    rows = tuple(Row(words=f"guidance {g:g}", cells=tuple(cell(g, steps) for steps in grid.columns)) for g in grid.rows)
    notes = (f"Between real pictures: {grid.against}",) if grid.levels else ()
    return Table(columns=tuple(f"{steps} steps" for steps in grid.columns), rows=rows, notes=notes)


def _by_figure(results: Results) -> Iterator[tuple[str, str, list[Measured]]]:
    """For each reference and figure all that was measured of models."""
    by_reference: dict[str, list[Metrics]] = {}
    for one in results.metrics.values():
        samples = results.samples.get(one.section.text("samples"))
        if samples and samples.method == "model":
            by_reference.setdefault(one.section.text("reference"), []).append(one)
    for reference, members in by_reference.items():
        for key in (key for family in QUALITY for key in keys_of(family, [one.figures for one in members])):
            having = [one for one in members if key in one.figures]
            yield reference, key, [_measured(one, key, results) for one in having]


def _measured(one: Metrics, key: str, results: Results) -> Measured:
    samples = results.samples[one.section.text("samples")]
    model, about = samples.section.text("model"), samples.about
    last = results.params.table("diffusion").table(model).table("train").count("steps")
    sampler = about.table("sampler")
    rest = {k: v for k, v in sampler.values_.items() if k != "num_steps"}
    rest |= {k: about.values_.get(k) for k in ("size", "guide", "start", "keep_known", "patches", "split")}
    low, high = intervals(one).get(key, (None, None))
    return Measured(
        model=model,
        samples=samples,
        figure=Point(x=0, y=one.figures.number(key), low=low, high=high),
        levels=_levels(one, key),
        steps=int(samples.section.get("snapshot", last)),
        num_steps=sampler.count("num_steps"),
        guidance=about.number("guidance"),
        rest=str(sorted(rest.items(), key=str)),
    )


def _levels(one: Metrics, key: str) -> tuple[Level, ...]:
    real = {words: f"{key}_{end}" for end, words in REAL.items() if f"{key}_{end}" in one.figures}
    values = {words: one.figures.number(place) for words, place in real.items()}
    return tuple(Level(name=words, value=value, written=name_of(key).write(value)) for words, value in values.items())


def _shared(points: Sequence[Measured]) -> tuple[Level, ...]:
    """What all the points are to be held against; of another number of pictures it may be another for each."""
    return tuple(level for level in points[0].levels if all(level in point.levels for point in points))


def _is_final(point: Measured) -> bool:
    return point.samples.section.get("snapshot") is None


def _training(reference: str, key: str, points: Sequence[Measured]) -> Chart | None:
    """The paper's figure 6. One way of sampling a model, the one that has the most snapshots, makes its line."""
    lines, drawn = [], list[Measured]()
    for model in dict.fromkeys(point.model for point in points):
        groups: dict[tuple[int, float, str], dict[int, Measured]] = {}
        for p in points:
            if p.model == model:
                groups.setdefault((p.num_steps, p.guidance, p.rest), {})[p.steps] = p
        longest = max(groups.values(), key=len)
        if len(longest) > 1:
            drawn += longest.values()
            lines.append(Line(name=model, points=tuple(p.figure.at(p.steps) for _, p in sorted(longest.items()))))
    if not lines:
        return None
    return Chart(
        name=f"training-{reference}-{key}",
        title=f"{head_of(key)} against {reference}",
        x="training steps",
        lines=tuple(lines),
        levels=_shared(drawn),
        log_x=False,
        caption="Quality over training, a line a model, from weights kept at these steps (the paper's figure 6)",
    )


def _speed(reference: str, key: str, points: Sequence[Measured], results: Results) -> Chart | None:
    """The paper's figure 7: a line a model and guidance, over the steps it was sampled with."""
    groups: dict[tuple[str, float, str], dict[int, Measured]] = {}
    for p in filter(_is_final, points):
        groups.setdefault((p.model, p.guidance, p.rest), {})[p.num_steps] = p
    drawn = {place: list(group.values()) for place, group in groups.items() if len(group) > 1}
    if not drawn:
        return None
    rates = {p.samples.name: results.rates.of("samples", p.samples.name) for group in drawn.values() for p in group}
    machines = {machine(rate) if len(rate) else "" for rate in rates.values()}
    timed = len(machines) == 1 and "" not in machines

    def place(p: Measured) -> float:
        return rates[p.samples.name].number("images_per_second") if timed else p.evaluations

    lines = []
    for (model, guidance, _), group in drawn.items():
        name = model if guidance == 1 else f"{model}, guidance {guidance:g}"
        lines.append(Line(name=name, points=tuple(p.figure.at(place(p)) for p in sorted(group, key=place))))
    counts = ", ".join(str(count) for count in sorted({p.num_steps for group in drawn.values() for p in group}))
    over = "throughput" if timed else "evaluations of the network, for not all were timed on one machine"
    device = f" on {machines.pop()}" if timed else ""
    return Chart(
        name=f"speed-{reference}-{key}",
        title=f"{head_of(key)} against {reference}",
        x="images a second" if timed else "evaluations an image",
        lines=tuple(lines),
        levels=_shared([p for group in drawn.values() for p in group]),
        log_x=True,
        caption=f"Quality over {over}{device}, a line a model, at {counts} sampling steps (the paper's figure 7)",
    )
