"""Open Images: the csv of boxes and the csv of their classes' names."""

import csv
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from ldm.data.shards import Box
from ldm.sources.candidate import Found
from ldm.sources.config import OpenImages, OpenImagesFiles
from ldm.sources.joined import NO_MAPS, Facts, candidates, check_once, picture_names
from ldm.sources.tree import Tree

_SIDES = ("XMin", "XMax", "YMin", "YMax")
_WORDS = pa.dictionary(pa.int32(), pa.string())
_COLUMNS = {"ImageID": _WORDS, "LabelName": _WORDS} | dict.fromkeys(_SIDES, pa.float32()) | {"IsGroupOf": pa.int8()}
_BEYOND = 0.01  # what rounding may put outside of the picture


def open_images(config: OpenImages, raw: Path) -> Found:
    """The pictures that are there: who has a part of them has no use for the rows of the others."""
    tree = Tree(raw)
    names = _class_names(tree, config.box_classes)
    classes = tuple(sorted(set(names.values())))
    numbers = {label: classes.index(name) for label, name in names.items()}
    parts = {split: _Part(tree, files, numbers) for split, files in config.splits.given().items()}
    check_once(raw, {split: part.pictures for split, part in parts.items()})
    split_of = {name: split for split, part in parts.items() for name in part.pictures}

    def facts(name: str) -> Facts | str:
        split = split_of[name]
        boxes = parts[split].boxes(name)
        if boxes is None:
            return f"no row in {config.splits.given()[split].boxes}"
        return Facts(split=split, licence=config.licence, boxes=boxes)

    return Found(
        candidates=partial(candidates, tree, facts, split_of, NO_MAPS), total=len(split_of), box_classes=classes
    )


class _Part:
    """The boxes of one split as arrays: its 14.6 million would not fit into memory as objects."""

    def __init__(self, tree: Tree, files: OpenImagesFiles, numbers: dict[str, int]):
        place = f"{tree.raw}/{files.boxes}"
        self.pictures: dict[str, str] = {}
        by_id: dict[str, str] = {}
        for name in picture_names(tree, files.pictures):
            id = PurePosixPath(name).stem
            if id in by_id:
                raise ValueError(f"{tree.raw}: duplicate id '{id}': '{by_id[id]}' and '{name}'; keep one")
            self.pictures[name], by_id[id] = id, name
        table = _table(tree, files.boxes)
        ids, which = _codes(table, "ImageID")
        here = np.array([id in by_id for id in ids], bool)[which]
        if not here.any():
            raise ValueError(f"{place}: no row is of a picture in {tree.raw}/{files.pictures}; mend source.splits")
        sides = np.stack([table[side].to_numpy() for side in _SIDES], axis=1)
        _check(sides, place)
        labels, label = _codes(table, "LabelName")
        known = np.array([numbers.get(name, -1) for name in labels], np.int32)[label]
        if (known < 0).any():
            row = int(np.argmin(known))
            raise ValueError(f"{place}, line {row + 2}: no class '{labels[label[row]]}' in source.box_classes' file")
        order = np.flatnonzero(here)
        order = order[np.argsort(which[order], kind="stable")]
        self._code = {id: code for code, id in enumerate(ids)}
        self._starts = np.searchsorted(which[order], np.arange(len(ids) + 1))
        self._sides, self._category = sides[order], known[order]
        self._group = table["IsGroupOf"].to_numpy()[order] == 1

    def boxes(self, name: str) -> tuple[Box, ...] | None:
        """None: no row names the picture."""
        code = self._code.get(self.pictures[name])
        if code is None:
            return None
        rows = range(self._starts[code], self._starts[code + 1])
        return tuple(_box(self._sides[row], self._category[row]) for row in rows if not self._group[row])


def _box(sides: np.ndarray, category: int) -> Box:
    left, right, top, bottom = (float(side) for side in sides)
    return Box(x=left, y=top, width=right - left, height=bottom - top, category=int(category))


def _table(tree: Tree, file: str) -> pa.Table:
    with tree.open(file, "put the csv of boxes there or mend source.splits") as content:
        try:
            return arrow_csv.read_csv(
                content,
                read_options=arrow_csv.ReadOptions(use_threads=False),  # with threads an error names no row
                convert_options=arrow_csv.ConvertOptions(include_columns=list(_COLUMNS), column_types=_COLUMNS),
            )
        except (pa.ArrowException, KeyError) as error:
            reason = " ".join(str(error).strip("'\"").split())
            raise ValueError(f"{tree.raw}/{file}: not Open Images' csv of boxes ({reason})") from None


def _codes(table: pa.Table, column: str) -> tuple[list[str], np.ndarray]:
    """The words of a column and which of them each row has."""
    whole = table[column].unify_dictionaries().combine_chunks()
    [chunk] = whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]
    return chunk.dictionary.to_pylist(), chunk.indices.to_numpy()


def _check(sides: np.ndarray, place: str) -> None:
    left, right, top, bottom = sides.T
    right_way = (left <= right) & (top <= bottom) & (sides >= -_BEYOND).all(1) & (sides <= 1 + _BEYOND).all(1)
    if not right_way.all():  # not so with NaN either
        row = int(np.argmin(right_way))
        shown = ", ".join(f"{name} {side:g}" for name, side in zip(_SIDES, sides[row], strict=True))
        raise ValueError(f"{place}, line {row + 2}: {shown}: not parts of the picture from 0 to 1; mend the row")


def _class_names(tree: Tree, file: str) -> dict[str, str]:
    """The name of each label such as /m/01g317."""
    place = f"{tree.raw}/{file}"
    lines = tree.text(file, "put class-descriptions-boxable.csv there or mend source.box_classes").splitlines()
    names: dict[str, str] = {}
    reader = csv.reader(lines)
    try:
        for cells in reader:
            if len(cells) != 2 or not all(cells):
                raise ValueError(
                    f"{place}, line {reader.line_num}: expected a label and its name, such as /m/01g317,Person"
                )
            if cells != ["LabelName", "DisplayName"]:
                names[cells[0]] = cells[1]
    except csv.Error as error:
        raise ValueError(f"{place}, line {reader.line_num}: not valid csv: {error}") from None
    if not names:
        raise ValueError(f"{place}: no names in it; take class-descriptions-boxable.csv")
    return names
