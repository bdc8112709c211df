"""The stage prepare: any source to shards of square pictures of one size, cut into parts by content."""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from ldm.config import shown
from ldm.data.batches import ahead, workers
from ldm.data.pictures import decode, grid, to_png
from ldm.data.shards import SPLITS, Box, Example, write_shards
from ldm.files import fresh_folder, write_json, write_manifest
from ldm.progress import Progress
from ldm.sources import config as sections
from ldm.sources.boxes import boxes
from ldm.sources.candidate import Candidate, Found
from ldm.sources.captions import captions
from ldm.sources.coco import coco
from ldm.sources.config import Dataset
from ldm.sources.drawn import drawn
from ldm.sources.folder import class_folders, folder
from ldm.sources.label_maps import label_maps
from ldm.sources.lmdb import lmdb
from ldm.sources.open_images import open_images
from ldm.sources.parquet import parquet
from ldm.sources.splits import assign, near_copies, thumbnail
from ldm.sources.text import check, one_line
from ldm.sources.webdataset import webdataset

_EVERY = 200  # pictures between two records of progress


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """What was a candidate, without its file: the PNGs are in the spool."""

    id: str
    split: str | None
    label: str | None
    caption: str | None
    licence: str
    image: slice
    label_map: slice | None
    boxes: tuple[Box, ...] | None
    content: str
    thumbnail: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Pixels:
    image: bytes
    label_map: bytes | None
    boxes: tuple[Box, ...] | None
    content: str
    thumbnail: np.ndarray


def prepare(config: Dataset, raw: Path, out: Path) -> Iterator[Progress]:
    """Write data/prepared/NAME: the shards of each split and dataset.json (docs/architecture.md, "Formats").

    The result depends on the pictures and their names, not on the order of files on disk, on archives or on workers.
    Raises ValueError of one line for what is wrong with `raw`.
    """
    try:
        yield from _prepare(config, raw, out)
    except ValueError as error:
        if type(error) is ValueError:
            error.args = (shown(str(error)),)  # it may quote names and texts of those who made the files
        raise


def _prepare(config: Dataset, raw: Path, out: Path) -> Iterator[Progress]:
    found = _find(config.source, raw)
    for name in (*(found.classes or ()), *(found.box_classes or ()), *(found.label_map_classes or ())):
        check(name, f"{raw}: ")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out.parent) as spool:
        ready: list[_Ready] = []
        skipped: list[dict[str, str]] = []
        with closing(ahead(partial(_render, config.size), found.candidates, workers())) as outcomes:
            for done, (candidate, pixels) in enumerate(outcomes, 1):
                if isinstance(pixels, _Pixels):
                    ready.append(_spooled(candidate, pixels, spool))
                elif config.on_bad_image == "stop":
                    raise ValueError(f"{raw}/{candidate.id}: {pixels}; mend or remove it, or say on_bad_image: skip")
                else:
                    skipped.append({"path": shown(candidate.id), "reason": shown(pixels)})
                if done % _EVERY == 0:
                    yield Progress(done=done, total=found.total, unit="pictures")
        _check_ids(ready, raw)
        parts = _parts(config, ready, skipped)
        if not parts.get("train"):
            raise ValueError(f"{raw}: no picture is left to train on ({found.total} found, {len(skipped)} skipped)")
        fresh_folder(out)  # only now: a mistake found above leaves an older result as it was
        info = _write(config, found, out, parts, skipped, spool)
        sheet = grid([decode(_unspooled(r.image, spool)) for r in parts["train"][:64]], 8)
    write_json(out / "dataset.json", info)
    write_manifest(out)
    yield Progress(done=found.total, total=found.total, unit="pictures", pictures={"train": sheet})


def _find(source: sections.Source, raw: Path) -> Found:
    match source:
        case sections.Drawn():
            return drawn(source)
        case sections.Folder():
            return folder(source, raw)
        case sections.ClassFolders():
            return class_folders(source, raw)
        case sections.Captions():
            return captions(source, raw)
        case sections.Coco():
            return coco(source, raw)
        case sections.OpenImages():
            return open_images(source, raw)
        case sections.LabelMaps():
            return label_maps(source, raw)
        case sections.Boxes():
            return boxes(source, raw)
        case sections.Lmdb():
            return lmdb(source, raw)
        case sections.Parquet():
            return parquet(source, raw)
        case sections.WebDataset():
            return webdataset(source, raw)


def _render(size: int, candidate: Candidate) -> tuple[Candidate, _Pixels | str]:
    """Its pixels, or what is wrong with it."""
    try:
        for text in (candidate.label, candidate.caption, candidate.licence):
            check(text)
        view = candidate.view(size)
    except ValueError as error:
        return candidate, str(error)
    return candidate, _Pixels(
        image=to_png(view.image),
        label_map=None if view.label_map is None else to_png(view.label_map),
        boxes=view.boxes,
        content=hashlib.sha256(view.image.tobytes()).hexdigest(),
        thumbnail=thumbnail(view.image),
    )


def _check_ids(ready: list[_Ready], raw: Path) -> None:
    twice = [id for id, count in Counter(r.id for r in ready).items() if count > 1]
    if twice:
        raise ValueError(f"{raw}: duplicate id '{min(twice)}'; keep one")


def _spooled(candidate: Candidate, pixels: _Pixels, spool: IO[bytes]) -> _Ready:
    """A data set may be larger than memory, and its order is known only at the end: keep the PNGs in a scratch file."""

    def append(content: bytes) -> slice:
        start = spool.tell()
        spool.write(content)
        return slice(start, start + len(content))

    return _Ready(
        id=candidate.id,
        split=candidate.split,
        label=candidate.label,
        caption=None if candidate.caption is None else one_line(candidate.caption),
        licence=one_line(candidate.licence),
        image=append(pixels.image),
        label_map=None if pixels.label_map is None else append(pixels.label_map),
        boxes=pixels.boxes,
        content=pixels.content,
        thumbnail=pixels.thumbnail,
    )


def _unspooled(place: slice, spool: IO[bytes]) -> bytes:
    spool.seek(place.start)
    return spool.read(place.stop - place.start)


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


def _write(
    config: Dataset,
    found: Found,
    out: Path,
    parts: dict[str, list[_Ready]],
    skipped: list[dict[str, str]],
    spool: IO[bytes],
) -> dict[str, Any]:
    """Write the shards; return what dataset.json says."""
    written = [r for members in parts.values() for r in members]
    classes = found.classes or _by_name({r.label for r in written if r.label is not None})
    numbers = {name: number for number, name in enumerate(classes)}
    names = _one_lines(classes)
    for split, members in parts.items():
        write_shards(out, split, (_example(r, numbers, spool) for r in members), classes=names)
    return {
        "size": config.size,
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


def _example(ready: _Ready, numbers: dict[str, int], spool: IO[bytes]) -> Example:
    return Example(
        id=ready.id,
        image=_unspooled(ready.image, spool),
        label=None if ready.label is None else numbers[ready.label],
        caption=ready.caption,
        boxes=ready.boxes,
        label_map=None if ready.label_map is None else _unspooled(ready.label_map, spool),
        licence=ready.licence,
    )
