"""Figures, how they are called and how they were measured, as tables: a row a figure, a column what was measured."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ldm.report.collect import Metrics
from ldm.report.records import Record

HIGHER, LOWER = "higher is better", "lower is better"


@dataclass(frozen=True, kw_only=True)
class Name:
    """How a figure is called on the page, and how its numbers are written."""

    words: str
    better: str = ""
    pattern: str = "{:.3f}"
    percent: bool = False

    def write(self, value: float) -> str:
        return f"{100 * value:.1f} %" if self.percent else self.pattern.format(value)


NAMES = {
    "psnr": Name(words="PSNR, dB", better=HIGHER, pattern="{:.2f}"),
    "ssim": Name(words="SSIM", better=HIGHER),
    "mse": Name(words="Mean squared error", better=LOWER, pattern="{:.5f}"),
    "mae": Name(words="Mean absolute error", better=LOWER, pattern="{:.4f}"),
    "caption_colour": Name(words="Captioned colour right", better=HIGHER, percent=True),
    "inception_score": Name(words="Inception score", better=HIGHER, pattern="{:.2f}"),
}
FAMILIES = {
    "rfid": Name(words="Reconstruction FID", better=LOWER, pattern="{:.2f}"),
    "rfd": Name(words="Reconstruction Fréchet distance", better=LOWER, pattern="{:.4g}"),
    "fid": Name(words="FID", better=LOWER, pattern="{:.2f}"),
    "fd": Name(words="Fréchet distance", better=LOWER, pattern="{:.4g}"),
    "kid": Name(words="Kernel distance (KID)", better=LOWER, pattern="{:.5f}"),
    "is": Name(words="Inception score", better=HIGHER, pattern="{:.2f}"),
    "precision": Name(words="Precision", better=HIGHER),
    "recall": Name(words="Recall", better=HIGHER),
    "lpips": Name(words="LPIPS", better=LOWER),
}
"""Figures on features; what follows the first word of the key names the features or the trunk, and the words say so."""

MEASURED = {
    "samples": "samples",
    "count": "pictures measured",
    "features": "features",
    "perceptual": "perceptual trunk",
    "dimensions": "feature dimensions",
    "reference": "reference",
    "reference_count": "pictures in the reference",
    "reference_split": "part of the reference",
    "of": "floor is the distance between",
    "sampler": "sampler",
    "kind": "sampler",
    "num_steps": "sampling steps",
    "steps": "sampling steps",
    "eta": "eta",
    "guidance": "guidance",
    "seed": "seed",
    "seeds": "seeds",
}
"""Entries of `about` in the order a reader wants them; others follow by name."""
ELSEWHERE = ("note", "frechet_distance")
"""Entries that stand below the table, or beside the figure they belong to."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    value: str
    beside: str = ""
    """A floor or a spread that belongs to the value."""


@dataclass(frozen=True, kw_only=True)
class Row:
    words: str
    key: str
    better: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    measured: tuple[Row, ...]
    """How the figures of each column were measured."""
    notes: tuple[str, ...] = ()
    """What to beware of when reading them."""


def name_of(key: str) -> Name:
    """The words for a figure's key; a key nobody has worded is shown as it is."""
    if key in NAMES:
        return NAMES[key]
    family, _, features = key.partition("_")
    if family in FAMILIES:
        name = FAMILIES[family]
        kind = "" if family == "lpips" else " features"
        words = f"{name.words}, {features.replace('_', ' ')}{kind}" if features else name.words
        return Name(words=words, better=name.better, pattern=name.pattern)
    return Name(words=key.replace("_", " ").capitalize(), pattern="{:.4g}")


def table(metrics: Sequence[Metrics]) -> Table:
    """All figures of the `metrics` side by side; what was measured on bicubic enlargements gets a column of its own."""
    columns: list[tuple[str, dict[str, float], Record | None]] = []
    for one in metrics:
        own, bicubic = split_bicubic(one.figures)
        columns.append((one.name, own, one.about))
        if bicubic and bicubic not in [figures for _, figures, _ in columns]:
            columns.append(("bicubic", bicubic, None))
    columns.sort(key=lambda column: column[0] == "bicubic")  # a stable sort: the baselines stand last
    keys = list(dict.fromkeys(key for _, figures, _ in columns for key in figures if not _beside(key, figures)))
    keys.sort(key=_rank)
    rows = []
    for key in keys:
        name, cells = name_of(key), tuple(_cell(column, key) for _, column, _ in columns)
        rows.append(Row(words=name.words, key=key, better=name.better, cells=cells))
    return Table(
        columns=tuple(name for name, _, _ in columns),
        rows=tuple(rows),
        measured=_measured([about for _, _, about in columns]),
        notes=_notes([(name, about) for name, _, about in columns if about is not None]),
    )


def split_bicubic(figures: Record) -> tuple[dict[str, float], dict[str, float]]:
    """The figures of what was measured, and under the same keys those of the bicubic baseline beside it."""
    own: dict[str, float] = {}
    bicubic: dict[str, float] = {}
    for key in figures:
        bare = re.sub(r"^bicubic_|_bicubic(?=_|$)", "", key)
        (own if bare == key else bicubic)[bare] = figures.number(key)
    return own, bicubic


def _beside(key: str, figures: dict[str, float]) -> bool:
    """Whether the figure belongs in the cell of another: its floor, or its spread over subsets."""
    bare = re.sub(r"_(floor|std)$", "", key)
    return bare != key and bare in figures


def _cell(figures: dict[str, float], key: str) -> Cell | None:
    if key not in figures:
        return None
    name, beside = name_of(key), []
    if f"{key}_std" in figures:
        beside.append(f"± {name.write(figures[f'{key}_std'])}")
    if f"{key}_floor" in figures:
        beside.append(f"floor {name.write(figures[f'{key}_floor'])}")
    return Cell(value=name.write(figures[key]), beside=", ".join(beside))


def _rank(key: str) -> tuple[int, str]:
    order = [*NAMES, *FAMILIES]
    family = key if key in NAMES else key.partition("_")[0]
    return (order.index(family) if family in order else len(order), key)


def _measured(abouts: Sequence[Record | None]) -> tuple[Row, ...]:
    flat = [dict(_flat(about)) if about is not None else {} for about in abouts]
    order = list(MEASURED)
    keys = sorted(
        {key for one in flat for key in one},
        key=lambda key: (order.index(_last(key)) if _last(key) in order else len(order), key),
    )
    rows = []
    for key in keys:
        words = MEASURED.get(_last(key), key.replace("_", " ").replace(".", ", "))
        cells = tuple(Cell(value=one[key]) if key in one else None for one in flat)
        rows.append(Row(words=words, key=key, better="", cells=cells))
    return tuple(rows)


def _notes(abouts: Sequence[tuple[str, Record]]) -> tuple[str, ...]:
    columns: dict[str, list[str]] = {}
    for name, about in abouts:
        if note := about.get("note"):
            columns.setdefault(plain(note), []).append(name)
    return tuple(f"{', '.join(names)}: {note}" for note, names in columns.items())


def _flat(values: Record, prefix: str = "") -> Iterable[tuple[str, str]]:
    for key in values:
        value = values[key]
        if isinstance(value, Record):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None and key not in ELSEWHERE:
            yield f"{prefix}{key}", plain(value)


def plain(value: Any) -> str:
    """A parameter as a reader writes it; of a hash the first twelve digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10000 else str(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in value)
    text = str(value)
    return text[:12] if re.fullmatch(r"[0-9a-f]{32,}", text) else text


def _last(key: str) -> str:
    return key.rpartition(".")[2]
