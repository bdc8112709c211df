"""Figures and how they were measured, as tables: a row a figure, a column what was measured."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ldm.report.collect import Metrics
from ldm.report.names import CAPTION_COLOUR, ELSEWHERE, MEASURED, OF_BICUBIC, name_of, plain, rank
from ldm.report.records import Record

HEALTH = {
    "mean": "Mean",
    "std": "Standard deviation",
    "noise": "of it the posterior's noise",
    "kurtosis": "Kurtosis (3: Gaussian)",
}
"""Moments of the latents, one figure a channel: latent_MOMENT_CHANNEL."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    value: str
    beside: str = ""
    """A floor, a spread or a ceiling that belongs to the value."""


@dataclass(frozen=True, kw_only=True)
class Row:
    words: str
    better: str = ""
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    measured: tuple[Row, ...] = ()
    """How the figures of each column were measured."""
    notes: tuple[str, ...] = ()
    """What to beware of when reading them."""


@dataclass(frozen=True, kw_only=True)
class Column:
    name: str
    figures: Mapping[str, float]
    measured: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)


def table(metrics: Sequence[Metrics]) -> Table:
    """All figures of the `metrics` side by side, a bicubic baseline after them; latent health is a table of its own."""
    models, baselines = [], list[Column]()
    for one in metrics:
        own, bicubic = split_bicubic(one.figures)
        measured = dict(_flat(one.about))
        models.append(Column(name=one.name, figures=own, measured=measured, beside=_ceiling(one)))
        shared = {key: measured[key] for key in OF_BICUBIC if key in measured}
        if bicubic and all(bicubic != other.figures for other in baselines):
            baselines.append(Column(name="bicubic", figures=bicubic, measured=shared))
    columns = [*models, *baselines]
    keys = dict.fromkeys(key for column in columns for key in column.figures if _has_row(key, column.figures))
    names = {key: name_of(key) for key in sorted(keys, key=rank)}
    return Table(
        columns=tuple(column.name for column in columns),
        rows=tuple(
            Row(words=name.words, better=name.better, cells=tuple(_cell(column, key) for column in columns))
            for key, name in names.items()
        ),
        measured=_measured(columns),
        notes=_notes(metrics),
    )


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


def split_bicubic(figures: Record) -> tuple[dict[str, float], dict[str, float]]:
    """The figures of what was measured, and under the same keys those of the bicubic baseline beside it."""
    own = {key: figures.number(key) for key in figures if not key.startswith("bicubic_")}
    bicubic = {key.removeprefix("bicubic_"): figures.number(key) for key in figures if key not in own}
    return own, bicubic


def _has_row(key: str, figures: Mapping[str, float]) -> bool:
    """Floors and spreads stand in the cell of their figure, moments of latents in a table of their own."""
    bare = re.sub(r"_(floor|std)$", "", key)
    return (bare == key or bare not in figures) and not re.fullmatch(rf"latent_({'|'.join(HEALTH)})_\d+", key)


def _cell(column: Column, key: str) -> Cell | None:
    figures = column.figures
    if key not in figures:
        return None
    name, beside = name_of(key), []
    if f"{key}_std" in figures:
        beside.append(f"± {name.write(figures[f'{key}_std'])}")
    if f"{key}_floor" in figures:
        beside.append(f"floor {name.write(figures[f'{key}_floor'])}")
    if key in column.beside:
        beside.append(column.beside[key])
    return Cell(value=name.write(figures[key]), beside=", ".join(beside))


def _ceiling(one: Metrics) -> dict[str, str]:
    """What the originals themselves reach: a rule that they do not meet cannot be asked of samples."""
    if CAPTION_COLOUR not in one.about:
        return {}
    originals = one.about.table(CAPTION_COLOUR)
    share = originals.count("originals_right") / max(1, originals.count("originals"))
    return {CAPTION_COLOUR: f"originals {name_of(CAPTION_COLOUR).write(share)}"}


def _measured(columns: Sequence[Column]) -> tuple[Row, ...]:
    keys = {key for column in columns for key in column.measured} - ELSEWHERE
    order = list(MEASURED)
    rows = []
    for key in sorted(keys, key=lambda key: (order.index(key) if key in order else len(order), key)):
        words = MEASURED.get(key, key.replace("_", " ").replace(".", ", "))
        values = [column.measured.get(key) for column in columns]
        cells = tuple(Cell(value=_spoken(value)) if value is not None else None for value in values)
        rows.append(Row(words=words, cells=cells))
    return tuple(rows)


def _spoken(value: str) -> str:
    """`random_conv` as words, which a narrow column can break."""
    return value.replace("_", " ") if re.fullmatch("[a-z0-9_]+", value) else value


def _notes(metrics: Sequence[Metrics]) -> tuple[str, ...]:
    names: dict[str, list[str]] = {}
    for one in metrics:
        if halves := one.about.table("floor").get("of"):
            floor = f"the floor is the same distance within the reference, between {plain(halves)}"
            names.setdefault(floor, []).append(one.name)
        if note := one.about.get("note"):
            names.setdefault(plain(note), []).append(one.name)
    return tuple(f"{', '.join(of)}: {note}" for note, of in names.items())


def _flat(values: Record, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key in values:
        value = values[key]
        if isinstance(value, Record):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", plain(value)
