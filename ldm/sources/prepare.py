"""The stage prepare: any source to shards of square pictures of one size, cut into parts by content."""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from ldm.data.batches import ahead, workers
from ldm.data.pictures import decode, grid, to_png
from ldm.data.shards import SPLITS, Example, write_shards
from ldm.files import fresh_folder, write_json, write_manifest
from ldm.progress import Progress
from ldm.sources import drawn, folder
from ldm.sources.candidate import Candidate
from ldm.sources.config import Captions, ClassFolders, Dataset, Drawn
from ldm.sources.palette import COLOURS, GROUNDS, PAIRS
from ldm.sources.splits import assign, near_copies, thumbnail
from ldm.sources.tree import Tree

_EVERY = 200  # pictures between two records of progress


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """A decoded candidate; its PNGs are in the spool."""

    candidate: Candidate
    image: slice
    label_map: slice | None
    content: str
    thumbnail: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Pixels:
    image: bytes
    label_map: bytes | None
    content: str
    thumbnail: np.ndarray


def prepare(config: Dataset, raw: Path, out: Path) -> Iterator[Progress]:
    """Write data/prepared/NAME: the shards of each split and dataset.json (docs/architecture.md, "Formats").

    The result depends on the pictures and their names, not on the order of files on disk, on archives or on workers.
    Raises ValueError of one line for what is wrong with `raw`.
    """
    candidates, total = _source(config, raw)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out.parent) as spool:
        ready: list[_Ready] = []
        skipped: list[dict[str, str]] = []
        outcomes = ahead(partial(_render, config.size), candidates, workers())
        for done, (candidate, pixels) in enumerate(outcomes, 1):
            if isinstance(pixels, _Pixels):
                ready.append(_spooled(candidate, pixels, spool))
            elif config.on_bad_image == "stop":
                raise ValueError(f"{raw}/{candidate.id}: {pixels}; mend or remove it, or say on_bad_image: skip")
            else:
                skipped.append({"path": candidate.id, "reason": pixels})
            if done % _EVERY == 0:
                yield Progress(done=done, total=total, unit="pictures")
        parts = _parts(config, ready, skipped)
        if not parts.get("train"):
            raise ValueError(f"{raw}: no picture is left to train on ({total} found, {len(skipped)} skipped)")
        fresh_folder(out)  # only now: a mistake found above leaves an older result as it was
        info = _write(config, out, parts, skipped, spool)
        sheet = grid([decode(_unspooled(r.image, spool)) for r in parts["train"][:64]], 8)
    write_json(out / "dataset.json", info)
    write_manifest(out)
    yield Progress(done=total, total=total, unit="pictures", pictures={"train": sheet})


def _source(config: Dataset, raw: Path) -> tuple[Iterator[Candidate], int]:
    """The candidates, in any order, and how many there are."""
    source = config.source
    if isinstance(source, Drawn):
        return drawn.candidates(source), source.count
    tree = Tree(raw)
    total = len(folder.picture_names(tree))
    if isinstance(source, Captions):
        return folder.captions(source, tree), total
    if isinstance(source, ClassFolders):
        return folder.class_folders(source, tree), total
    return folder.folder(source, tree), total


def _render(size: int, candidate: Candidate) -> tuple[Candidate, _Pixels | str]:
    """Its pixels, or what is wrong with it."""
    try:
        image, label_map = candidate.picture(size)
    except ValueError as error:
        return candidate, str(error)
    return candidate, _Pixels(
        image=to_png(image),
        label_map=None if label_map is None else to_png(label_map),
        content=hashlib.sha256(image.tobytes()).hexdigest(),
        thumbnail=thumbnail(image),
    )


def _spooled(candidate: Candidate, pixels: _Pixels, spool: IO[bytes]) -> _Ready:
    """A data set may be larger than memory, and its order is known only at the end: keep the PNGs in a scratch file."""

    def append(content: bytes) -> slice:
        start = spool.tell()
        spool.write(content)
        return slice(start, start + len(content))

    return _Ready(
        candidate=candidate,
        image=append(pixels.image),
        label_map=None if pixels.label_map is None else append(pixels.label_map),
        content=pixels.content,
        thumbnail=pixels.thumbnail,
    )


def _unspooled(place: slice, spool: IO[bytes]) -> bytes:
    spool.seek(place.start)
    return spool.read(place.stop - place.start)


def _parts(config: Dataset, ready: list[_Ready], skipped: list[dict[str, str]]) -> dict[str, list[_Ready]]:
    """The pictures of each split that has any, in order of id."""
    ready = sorted(ready, key=lambda r: r.candidate.id)
    if not ready:
        return {}
    groups = near_copies(np.stack([r.thumbnail for r in ready])).tolist()
    given = [r.candidate.split for r in ready]
    splits = assign(groups, [r.content for r in ready], given, config.validation, config.test)
    parts: dict[str, list[_Ready]] = {}
    for split in SPLITS:
        if members := [r for r, part in zip(ready, splits, strict=True) if part == split]:
            parts[split] = members
    for r, part in zip(ready, splits, strict=True):
        if part is None:
            skipped.append(
                {"path": r.candidate.id, "reason": "a near-copy of a picture in the given test or validation split"}
            )
    return parts


def _write(
    config: Dataset, out: Path, parts: dict[str, list[_Ready]], skipped: list[dict[str, str]], spool: IO[bytes]
) -> dict[str, Any]:
    """Write the shards; return what dataset.json says."""
    is_drawn = isinstance(config.source, Drawn)
    candidates = [r.candidate for members in parts.values() for r in members]
    classes = list(PAIRS) if is_drawn else sorted({c.label for c in candidates if c.label is not None})
    numbers = {name: number for number, name in enumerate(classes)}
    for split, members in parts.items():
        write_shards(out, split, (_example(r, numbers, spool) for r in members), classes=classes or None)
    info = {
        "size": config.size,
        "splits": {split: len(members) for split, members in parts.items()},
        "classes": classes or None,
        "label_map_classes": ["ground", *PAIRS] if is_drawn else None,
        "skipped": sorted(skipped, key=lambda entry: entry["path"]),
        "licences": dict(Counter(c.licence for c in candidates)),
    }
    return info | ({"palette": COLOURS, "grounds": GROUNDS} if is_drawn else {})


def _example(ready: _Ready, numbers: dict[str, int], spool: IO[bytes]) -> Example:
    c = ready.candidate
    return Example(
        id=c.id,
        image=_unspooled(ready.image, spool),
        label=None if c.label is None else numbers[c.label],
        caption=c.caption,
        boxes=c.boxes,
        label_map=None if ready.label_map is None else _unspooled(ready.label_map, spool),
        licence=c.licence,
    )
