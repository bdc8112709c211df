"""Strips: what models were shown, what each made of it, and the original, a row a picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from ldm.report.album import PREVIEW, SMALL, Album, Picture, encoded
from ldm.report.collect import Prepared, Results, Samples
from ldm.report.pictures import content
from ldm.report.records import open_picture, rows_by_id, rows_of

ROWS = 8
GAP = 4
"""Pixels between pictures in a strip's file."""
GIVEN = {
    "low_resolution": "low resolution",
    "mask": "with its hole",
    "grey": "grey",
    "label_map": "label map",
    "layout": "layout",
}
"""What the first column is called, by the kind of condition that can be looked at."""


@dataclass(frozen=True, kw_only=True)
class StripRow:
    caption: str
    """The prompt, where models were told one besides."""
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Rows of pictures of the same ids; `heads` says what each column shows."""

    heads: tuple[str, ...]
    rows: tuple[StripRow, ...]
    cell: int
    """Width in CSS pixels at which one picture is shown where there is room."""
    split: str
    file: str
    """The whole strip as one picture, relative to the page."""


def strips(results: Results, members: Sequence[Samples], name: str, album: Album) -> list[Strip]:
    """One for each group of `members` that were shown the same pictures; files are called by `name`."""
    groups = list(comparison_groups(results, members))
    numbered = [name if len(groups) == 1 else f"{name}-{number + 1}" for number in range(len(groups))]
    return [
        _strip(group, prepared, given, file, album)
        for file, (prepared, given, group) in zip(numbered, groups, strict=True)
    ]


def comparison_groups(results: Results, members: Sequence[Samples]) -> Iterator[tuple[Prepared, str, list[Samples]]]:
    """Samples made from the same pictures, shown in the same way, with their data set and what was shown.

    Those that were shown nothing are in no group.
    """
    groups: dict[tuple[str, str, str, str], list[Samples]] = {}
    for samples in members:
        if given := given_to(samples):
            latents = results.params.table("latents").table(samples.section.text("latents"))
            key = (latents.text("dataset"), samples.section.text("split"), given, str(latents.values_.get(given)))
            groups.setdefault(key, []).append(samples)
    for (dataset, _, given, _), group in groups.items():
        if dataset in results.datasets:
            bicubic_first = sorted(group, key=lambda samples: samples.method != "bicubic")
            yield results.datasets[dataset], given, bicubic_first


def given_to(samples: Samples) -> str:
    """The kind of what the sampling was shown that can be looked at; empty where nothing of it can."""
    if samples.told("channels") != "none":
        return samples.told("channels")
    if samples.about.get("keep_known", False):
        return "mask"
    return "layout" if samples.told("tokens") == "layout" else ""


def _strip(group: Sequence[Samples], prepared: Prepared, given: str, name: str, album: Album) -> Strip:
    split = group[0].section.text("split")
    ids = _common_ids(group)
    originals = rows_by_id(prepared.shards(split), ["image"], ids)
    made = [rows_by_id(samples.shards(), ["image", "shown", "caption"], ids) for samples in group]
    shown = _who_was_shown(group, made)
    enlarge = given == "low_resolution" and all(samples.method != "bicubic" for samples in group)
    heads = [GIVEN.get(given, given.replace("_", " ")), *(["bicubic"] if enlarge else [])]
    heads += [*(samples.name for samples in group), "original"]
    rows = []
    for id_ in ids:
        original = content(originals[id_], "image", f"data/prepared/{prepared.name}")
        first = content(made[shown][id_], "shown", f"samples/{group[shown].name}")
        row = [first, *([_bicubic(first, original, id_)] if enlarge else [])]
        row += [content(m[id_], "image", f"samples/{samples.name}") for m, samples in zip(made, group, strict=True)]
        rows.append([*row, original])
    prompted = any("text" in samples.told("tokens") for samples in group)
    captions = [made[shown][id_]["caption"] or "" if prompted else "" for id_ in ids]
    shown_rows = tuple(
        StripRow(
            caption=caption,
            pictures=tuple(
                album.picture(png, f"{id_}, {head}", f"{id_}: {head}", f"{name}-{i:02d}-{column:02d}")
                for column, (png, head) in enumerate(zip(row, heads, strict=True))
            ),
        )
        for i, (id_, caption, row) in enumerate(zip(ids, captions, rows, strict=True))
    )
    width = max(open_picture(row[-1], "original").width for row in rows)
    file = album.keep(name, _sheet(rows, _cell(width) if width < SMALL else width))
    return Strip(heads=tuple(heads), rows=shown_rows, cell=_cell(width), split=split, file=file)


def _who_was_shown(group: Sequence[Samples], made: Sequence[dict[str, dict[str, object]]]) -> int:
    """A method brought from elsewhere need not know what it was shown; then another of the group does."""
    for position, rows in enumerate(made):
        if all(row["shown"] for row in rows.values()):
            return position
    raise ValueError(f"samples/{group[0].name}: shown: no picture; run its stage again")


def _common_ids(group: Sequence[Samples]) -> list[str]:
    firsts = [[row["id"] for row in rows_of(s.shards(), ["id"])] for s in group]
    shared = set(firsts[0]).intersection(*firsts[1:])
    if not shared:
        raise ValueError(f"samples/{group[0].name}: shares no id with the others of its split; run dvc repro")
    return list(dict.fromkeys(id_ for id_ in firsts[0] if id_ in shared))[:ROWS]


def _bicubic(low: bytes, original: bytes, id_: str) -> bytes:
    """The low-resolution picture at the original's size, by Pillow's bicubic as in `ldm.data.pictures.resize`."""
    size = open_picture(original, id_).size
    return encoded(open_picture(low, id_).resize(size, Image.Resampling.BICUBIC), "PNG")


def _sheet(rows: Sequence[Sequence[bytes]], cell: int) -> bytes:
    """All pictures in one, each `cell` pixels a side; smaller ones with each pixel a square."""
    sheet = Image.new("RGB", (len(rows[0]) * (cell + GAP) - GAP, len(rows) * (cell + GAP) - GAP), "white")
    for y, row in enumerate(rows):
        for x, png in enumerate(row):
            with Image.open(BytesIO(png)) as opened:
                image = opened.convert("RGB").resize((cell, cell), Image.Resampling.NEAREST)
            sheet.paste(image, (x * (cell + GAP), y * (cell + GAP)))
    return encoded(sheet, "PNG")


def _cell(width: int) -> int:
    """A whole number of CSS pixels for each of a small picture's, about 128 in all; a large one's size up to 256."""
    return max(1, round(SMALL / width)) * width if width < SMALL else min(width, PREVIEW)
