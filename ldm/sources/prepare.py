"""The stage prepare: any source to shards of square pictures of one size, cut into parts by content."""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ldm.data.pictures import decode, grid
from ldm.data.shards import SPLITS, Box, Example, write_shards
from ldm.files import fresh_folder, write_json, write_manifest
from ldm.progress import Progress
from ldm.sources.config import Dataset
from ldm.sources.raw import Raw, fit_to_show
from ldm.sources.splits import SIDE, assign, near_copies
from ldm.sources.text import one_line
from ldm.sources.work import Work


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """A rendered picture and what is known of it; its PNGs are in a row of the part from `start` on."""

    start: int
    row: int
    id: str
    split: str | None
    label: str | None
    caption: str | None
    licence: str
    boxes: tuple[Box, ...] | None
    content: str
    thumbnail: np.ndarray


def prepare(raw: Raw, out: Path, resume: Path) -> Iterator[Progress]:
    """Write data/prepared/NAME: the shards of each split and dataset.json (docs/architecture.md, "Formats").

    Parts found in `resume` are not rendered again. The result depends on the pictures and their names, not on the order
    of files on disk, on archives or on workers. Raises ValueError of one line for what is wrong with `raw`.
    """
    with fit_to_show():
        yield from _prepare(raw, out, resume)


def _prepare(raw: Raw, out: Path, resume: Path) -> Iterator[Progress]:
    work, total = Work(raw, resume), raw.found.total
    ready: list[_Ready] = []
    skipped: list[dict[str, str]] = []
    for start in work.starts():
        part = work.batch(start)
        for row, known in enumerate(part.drop_columns(["image", "label_map"]).to_pylist()):
            if known["reason"] is None:
                ready.append(_ready(start, row, known))
            else:
                skipped.append({"path": known["id"], "reason": known["reason"]})
        yield Progress(done=start + len(part), total=total, unit="pictures")
    _check_ids(ready, raw.place)
    parts = _parts(raw.config, ready, skipped)
    if not parts.get("train"):
        raise ValueError(f"{raw.place}: no picture is left to train on ({total} found, {len(skipped)} skipped)")
    fresh_folder(out)  # only now: a mistake found above leaves an older result as it was
    info = _write(work, out, parts, skipped)
    sheet = grid([decode(work.pictures(r.start, r.row)[0]) for r in parts["train"][:64]], 8)
    write_json(out / "dataset.json", info)
    write_manifest(out)
    shutil.rmtree(resume)
    yield Progress(done=total, total=total, unit="pictures", pictures={"train": sheet})


def _ready(start: int, row: int, known: dict[str, Any]) -> _Ready:
    del known["reason"]
    boxes, thumbnail = known.pop("boxes"), np.frombuffer(known.pop("thumbnail"), np.uint8)
    return _Ready(
        start=start,
        row=row,
        boxes=None if boxes is None else tuple(Box(**box) for box in boxes),
        thumbnail=thumbnail.reshape(SIDE, SIDE, 3),
        **known,
    )


def _check_ids(ready: list[_Ready], raw: Path) -> None:
    twice = [id for id, count in Counter(r.id for r in ready).items() if count > 1]
    if twice:
        raise ValueError(f"{raw}: duplicate id '{min(twice)}'; keep one")


def _parts(config: Dataset, ready: list[_Ready], skipped: list[dict[str, str]]) -> dict[str, list[_Ready]]:
    """The pictures of each split that has any, in order of id."""
    ready = sorted(ready, key=lambda r: r.id)
    if not ready:
        return {}
    groups = near_copies(np.stack([r.thumbnail for r in ready])).tolist()
    given = [r.split for r in ready]
    splits = assign(groups, [r.content for r in ready], given, config.validation, config.test)
    parts: dict[str, list[_Ready]] = {}
    for split in SPLITS:
        if members := [r for r, part in zip(ready, splits, strict=True) if part == split]:
            parts[split] = members
    for r, part in zip(ready, splits, strict=True):
        if part is None:
            skipped.append({"path": r.id, "reason": "a near-copy of a picture in the given test or validation split"})
    return parts


def _write(work: Work, out: Path, parts: dict[str, list[_Ready]], skipped: list[dict[str, str]]) -> dict[str, Any]:
    """Write the shards; return what dataset.json says."""
    found = work.raw.found
    written = [r for members in parts.values() for r in members]
    classes = found.classes or _by_name({r.label for r in written if r.label is not None})
    numbers = {name: number for number, name in enumerate(classes)}
    names = _one_lines(classes)
    for split, members in parts.items():
        write_shards(out, split, (_example(r, numbers, work) for r in members), classes=names)
    return {
        "size": work.raw.config.size,
        "splits": {split: len(members) for split, members in parts.items()},
        "classes": names,
        "box_classes": _one_lines(found.box_classes),
        "label_map_classes": _one_lines(found.label_map_classes),
        "skipped": sorted(skipped, key=lambda entry: entry["path"]),
        "licences": dict(Counter(r.licence for r in written)),
        **found.about,
    }


def _one_lines(names: tuple[str, ...] | None) -> list[str] | None:
    return [one_line(name) for name in names] if names else None


def _by_name(labels: set[str]) -> tuple[str, ...]:
    """In order of name; where all are numbers, of number."""
    numbers = all(label.isascii() and label.isdecimal() for label in labels)
    return tuple(sorted(labels, key=(lambda label: (int(label), label)) if numbers else None))


def _example(ready: _Ready, numbers: dict[str, int], work: Work) -> Example:
    image, label_map = work.pictures(ready.start, ready.row)
    return Example(
        id=ready.id,
        image=image,
        label=None if ready.label is None else numbers[ready.label],
        caption=ready.caption,
        boxes=ready.boxes,
        label_map=label_map,
        licence=ready.licence,
    )
