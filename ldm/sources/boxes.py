"""Pictures with a file of boxes of the user's own: JSON lines, or one JSON with a list of images."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ldm.data.shards import Box
from ldm.sources.candidate import Found
from ldm.sources.config import Boxes
from ldm.sources.joined import Facts
from ldm.sources.rows import Row, by_picture, found, is_number, json_lines, licence, parsed
from ldm.sources.tree import Tree

_BEYOND = 0.01  # what rounding may put outside of the picture


def boxes(config: Boxes, raw: Path) -> Found:
    """The categories, by name, are the box classes; boxes that say `crowd` are left out."""
    tree = Tree(raw)
    rows = by_picture(config.file, _rows(tree, config.file))
    if not rows:
        raise ValueError(f"{raw}/{config.file}: no pictures in it; write one JSON line a picture")
    named = {name: list(named_boxes(row)) for name, row in rows.items()}
    classes = tuple(sorted({category for each in named.values() for category, _ in each}))
    if not classes:
        raise ValueError(f"{raw}/{config.file}: no boxes in it; say source.kind: folder")
    numbers = {category: number for number, category in enumerate(classes)}
    facts = {name: _facts(row, named[name], numbers, config.licence) for name, row in rows.items()}
    return found(tree, config.file, rows, facts, box_classes=classes)


def _facts(row: Row, named: list[tuple[str, tuple[float, ...]]], numbers: Mapping[str, int], otherwise: str) -> Facts:
    around = tuple(
        Box(x=x, y=y, width=width, height=height, category=numbers[category])
        for category, (x, y, width, height) in named
    )
    size = (row.values.get("width"), row.values.get("height"))
    known = all(is_number(side) and side > 0 for side in size)  # type: ignore[operator]
    return Facts(boxes=around, size=size if known else None, licence=licence(row, otherwise))  # type: ignore[arg-type]


def _rows(tree: Tree, file: str) -> Iterator[Row]:
    mending = "write it, one JSON line a picture, or mend source.file"
    if not file.lower().endswith(".json"):
        yield from json_lines(tree, file, mending)
        return
    place = f"{tree.raw}/{file}"
    values = parsed(tree.text(file, mending), place)
    images = values.get("images") if isinstance(values, dict) else None
    if not isinstance(images, list) or "annotations" in values:
        kind = "; COCO's own files are source.kind: coco" if isinstance(images, list) else ""
        raise ValueError(f'{place}: expected {{"images": [{{"file": "1.jpg", "objects": [...]}}]}}{kind}')
    for number, image in enumerate(images, 1):
        if not isinstance(image, dict):
            raise ValueError(f'{place}, image {number}: expected {{"file": "1.jpg", "objects": [...]}}')
        yield Row(f"{place}, image {number}", image)


def named_boxes(row: Row) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Class and [x, y, width, height], in parts of the picture, of each entry of the row's `boxes` or `objects`."""
    listed = row.values.get("boxes", row.values.get("objects"))
    if not isinstance(listed, list):
        raise ValueError(f"{row.place}: no list of 'boxes' (there is: {', '.join(row.values)}); write [] for none")
    for number, entry in enumerate(listed, 1):
        place = f"{row.place}, box {number}"
        category, box = (entry.get("category"), _box(entry)) if isinstance(entry, dict) else (None, None)
        if not isinstance(category, str) or not category or box is None:
            raise ValueError(f'{place}: expected {{"category": "dog", "box": [x, y, width, height]}}, four numbers')
        if not _inside(box):
            shown = ", ".join(f"{n:g}" for n in box)
            raise ValueError(
                f"{place}: [{shown}] is not within 0 to 1; give parts of the picture's width and height, not pixels"
            )
        if not entry.get("crowd"):
            yield category, box


def _box(entry: Mapping[str, Any]) -> tuple[float, ...] | None:
    numbers = entry.get("box", entry.get("box_xywh"))
    if not isinstance(numbers, list) or len(numbers) != 4:
        return None
    return tuple(float(n) for n in numbers) if all(map(is_number, numbers)) else None


def _inside(box: tuple[float, ...]) -> bool:
    x, y, width, height = box
    least = min(x, y) >= -_BEYOND and min(width, height) >= 0
    return least and max(x + width, y + height) <= 1 + _BEYOND
