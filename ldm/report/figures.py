"""Figures and how they were measured, as tables: a row a figure, a column what was measured."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ldm.report.collect import Metrics
from ldm.report.names import (
    CAPTION_COLOUR,
    ELSEWHERE,
    MEASURED,
    MEMORISED,
    OF_BICUBIC,
    REAL,
    Name,
    name_of,
    plain,
    rank,
)
from ldm.report.records import Record
from ldm.report.tables import Cell, Row, Table

HEALTH = {
    "mean": "Mean",
    "std": "Standard deviation",
    "noise": "of it the posterior's noise",
    "kurtosis": "Kurtosis (3: Gaussian)",
}
"""Moments of the latents, one figure a channel: latent_MOMENT_CHANNEL."""
AT_THESE_COUNTS = (
    "Floor and “train–held-out” are distances between as many real pictures, none of which shares what was not hidden "
    "with another, as fills and their originals do"
)


@dataclass(frozen=True, kw_only=True)
class Column:
    name: str
    figures: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    measured: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)


def table(metrics: Sequence[Metrics], *, enlarged: bool = True) -> Table:
    """All figures of the `metrics` side by side; latent health is a table of its own.

    `enlarged`: after them bicubic enlargement, where it was measured. It is also where latents happen to have
    low-resolution pictures, and says nothing of fills.
    """
    models, baselines = [], list[Column]()
    measured_bicubic = any(is_bicubic(one) for one in metrics)
    for one in metrics:
        models.append(column(one))
        bicubic = bicubic_beside(one)
        if (
            enlarged
            and bicubic
            and not measured_bicubic
            and all(bicubic.figures != other.figures for other in baselines)
        ):
            baselines.append(bicubic)
    columns = [*models, *baselines]
    keys = dict.fromkeys(key for column in columns for key in column.figures if _has_row(key, column.figures))
    names = {key: name_of(key) for key in sorted(keys, key=rank)}
    return Table(
        columns=tuple(column.name for column in columns),
        rows=tuple(
            Row(words=name.words, beside=name.better, cells=tuple(cell(one, key) for one in columns))
            for key, name in names.items()
        ),
        measured=_measured(columns),
        notes=_notes(metrics),
    )


def column(one: Metrics) -> Column:
    """What was measured of one model or method."""
    return Column(
        name=one.name,
        figures=split_bicubic(one.figures)[0],
        intervals=intervals(one),
        measured=dict(_flat(one.about)),
        beside=_beside(one),
    )


def bicubic_beside(one: Metrics) -> Column | None:
    """What was measured of the low-resolution pictures enlarged, beside samples; None where nothing was."""
    if not (figures := split_bicubic(one.figures)[1]):
        return None
    ends = {key.removeprefix("bicubic_"): ends for key, ends in intervals(one).items() if key.startswith("bicubic_")}
    measured = {key: value for key, value in _flat(one.about) if key in OF_BICUBIC}
    return Column(name="bicubic", figures=figures, intervals=ends, measured=measured)


def is_bicubic(one: Metrics) -> bool:
    """Whether the samples measured are low-resolution pictures enlarged: a row of `methods` beside the models."""
    return one.about.table("sampling").get("method") == "bicubic"


def intervals(one: Metrics) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each figure that has one."""
    return ends_of(one.intervals)


def ends_of(record: Record) -> dict[str, tuple[float, float]]:
    """Of {figure: [low, high]}; anything else is a ValueError."""
    found = {}
    for key in record:
        match record.rows(key):
            case [int() | float() as low, int() | float() as high]:
                found[key] = (float(low), float(high))
            case _:
                raise ValueError(f"{record.file}: {record.place}.{key}: expected [low, high]; run its stage again")
    return found


def health(one: Metrics) -> Table | None:
    """The moments of an autoencoder's latents, a column a channel; None where they were not measured."""
    channels = sum(key.startswith("latent_mean_") for key in one.figures)
    if not channels:
        return None
    rows = []
    for moment, words in HEALTH.items():
        values = [one.figures.number(f"latent_{moment}_{channel}") for channel in range(channels)]
        rows.append(Row(words=words, cells=tuple(Cell(value=f"{value:.3f}") for value in values)))
    return Table(columns=tuple(f"channel {i + 1}" for i in range(channels)), rows=tuple(rows))


def area_bins(one: Metrics) -> dict[tuple[float, float], Column]:
    """What was measured of fills, apart by the part of the picture that was hidden, from and to."""
    found = {}
    for entry in one.about.get("area_bins", []):
        area = Record(entry, one.about.file, "about.area_bins")
        figures = area.table("figures")
        found[area.number("low"), area.number("high")] = Column(
            name=one.name,
            figures={key: figures.number(key) for key in figures},
            intervals=ends_of(area.table("intervals")),
            measured={"count": f"{area.count('count'):,}"},
        )
    return found


def areas(one: Metrics) -> Table | None:
    """The same as a table, a column a bin; None where no hole was filled."""
    bins = area_bins(one)
    if not bins:
        return None
    columns = list(bins.values())
    keys = sorted({key for column in columns for key in column.figures if _has_row(key, column.figures)}, key=rank)
    counts = Row(words="Pictures", cells=tuple(Cell(value=column.measured["count"]) for column in columns))
    rows = (
        Row(words=name_of(key).words, beside=name_of(key).better, cells=tuple(cell(column, key) for column in columns))
        for key in keys
    )
    heads = tuple(f"{100 * low:.0f} to {100 * high:.0f} %" for low, high in bins)
    held_against = any(key.endswith("_floor") for column in columns for key in column.figures)
    return Table(columns=heads, rows=(counts, *rows), notes=(AT_THESE_COUNTS,) if held_against else ())


def split_bicubic(figures: Record) -> tuple[dict[str, float], dict[str, float]]:
    """The figures of what was measured, and under the same keys those of the bicubic baseline beside it."""
    own = {key: figures.number(key) for key in figures if not key.startswith("bicubic_")}
    bicubic = {key.removeprefix("bicubic_"): figures.number(key) for key in figures if key not in own}
    return own, bicubic


def _has_row(key: str, figures: Mapping[str, float]) -> bool:
    """Floors and spreads stand in the cell of their figure, moments of latents in a table of their own."""
    bare = re.sub(r"_(floor|std|train)$", "", key)
    return (bare == key or bare not in figures) and not re.fullmatch(rf"latent_({'|'.join(HEALTH)})_\d+", key)


def cell(column: Column, key: str) -> Cell | None:
    """The figure with its interval, and what it is to be held against; None where it was not measured."""
    figures = column.figures
    if key not in figures:
        return None
    name, beside = name_of(key), []
    if f"{key}_std" in figures and key not in column.intervals:
        beside.append(f"± {name.write(figures[f'{key}_std'])}")
    for end, words in REAL.items():
        if f"{key}_{end}" in figures:
            beside.append(f"{words} {name.write(figures[f'{key}_{end}'])}")
    if key in column.beside:
        beside.append(column.beside[key])
    return Cell(value=name.write(figures[key]), interval=_interval(name, column, key), beside=", ".join(beside))


def _interval(name: Name, column: Column, key: str) -> str:
    if key not in column.intervals:
        return ""
    low, high = (name.write(end) for end in column.intervals[key])
    return f"[{low}, {high}]"


def _beside(one: Metrics) -> dict[str, str]:
    """What figures are held against: the originals' own share where a rule is asked of samples, the share expected."""
    found = {}
    if CAPTION_COLOUR in one.about:
        originals = one.about.table(CAPTION_COLOUR)
        share = originals.count("originals_right") / max(1, originals.count("originals"))
        found[CAPTION_COLOUR] = f"originals {name_of(CAPTION_COLOUR).write(share)}"
    if "expected_at_most" in one.about.table(MEMORISED):
        share = one.about.table(MEMORISED).number("expected_at_most")
        found[MEMORISED] = f"unseen pictures at most {name_of(MEMORISED).write(share)}"
    return found


def _measured(columns: Sequence[Column]) -> tuple[Row, ...]:
    keys = {key for one in columns for key in one.measured if not ELSEWHERE.intersection(_places(key))}
    order = list(MEASURED)
    rows = []
    for key in sorted(keys, key=lambda key: (order.index(key) if key in order else len(order), key)):
        words = MEASURED.get(key, key.replace("_", " ").replace(".", ", "))
        values = [one.measured.get(key) for one in columns]
        cells = tuple(Cell(value=_spoken(value)) if value is not None else None for value in values)
        rows.append(Row(words=words, cells=cells))
    return tuple(rows)


def _places(key: str) -> Iterator[str]:
    """The key and every table that it stands in."""
    parts = key.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))


def _spoken(value: str) -> str:
    """`random_conv` as words, which a narrow column can break."""
    return value.replace("_", " ") if re.fullmatch("[a-z0-9_]+", value) else value


def _notes(metrics: Sequence[Metrics]) -> tuple[str, ...]:
    names: dict[str, list[str]] = {}
    for one in metrics:
        for key in one.about.table("beside"):
            sets = one.about.table("beside").table(key)
            counts = (f"{at.count('count'):,} and {at.count('against'):,}" for at in map(sets.table, sets))
            unpaired = f"beside {name_of(key).words} stand distances between other real pictures"
            names.setdefault(f"{unpaired}, of {' and of '.join(dict.fromkeys(counts))}", []).append(one.name)
        if halves := one.about.table("floor").get("of"):
            floor = f"the floor is the same distance within the reference, between {plain(halves)}"
            names.setdefault(floor, []).append(one.name)
        if any(key.endswith("_train") for key in one.figures):
            seen = one.about.get("reference_split") == "train"
            unlike = (
                "pictures held out of training and this reference" if seen else "training pictures and this reference"
            )
            real = f"“{REAL['train']}” is the same figure between {unlike}, as many of each"
            names.setdefault(real, []).append(one.name)
        for warning in one.about.get("latent_warnings", []):
            names.setdefault(plain(warning), []).append(one.name)
        if note := one.about.get("note"):
            names.setdefault(plain(note), []).append(one.name)
    return tuple(f"{', '.join(of)}: {note}" for note, of in names.items())


def _flat(values: Record, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key in values:
        value = values[key]
        if isinstance(value, Record):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None and not _tabled(value):
            yield f"{prefix}{key}", plain(value)


def _tabled(value: Any) -> bool:
    """A list of tables, such as neighbours and area_bins, has a place of its own on the page."""
    return isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value)
