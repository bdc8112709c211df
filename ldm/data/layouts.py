"""Boxes as token ids: top-left, bottom-right and class of each, then the corners of the part that is shown."""

from collections.abc import Sequence
from math import floor, isqrt
from typing import Any

import torch
from jaxtyping import Int
from PIL import Image, ImageColor, ImageDraw
from torch import Tensor

from ldm.data.shards import Box

_COLOURS = [ImageColor.getrgb(f"hsl({hue * 47 % 360}, 70%, 40%)") for hue in range(12)]
Corners = tuple[float, float, float, float]
WHOLE: Corners = (0.0, 0.0, 1.0, 1.0)
"""Left, top, right and bottom of a crop that shows the whole picture, in parts of its sides."""


def sections(vocabulary_size: int) -> int:
    """How many places a side has: as many as the vocabulary has room for beside the empty id, its last (8192: 90)."""
    return isqrt(vocabulary_size - 1)


def check_vocabulary(vocabulary_size: int, classes: int) -> None:
    """Refuse a vocabulary without ids for all classes beside the empty one; as released, positions share them."""
    if classes >= vocabulary_size:
        raise ValueError(
            f"layout.vocabulary_size {vocabulary_size} is too small for {classes} classes of boxes and the empty box; "
            "make it larger, such as 8192"
        )


def layout_ids(
    boxes: Sequence[Box] | None, count: int, vocabulary_size: int, shown: Corners = WHOLE
) -> Int[Tensor, " n"]:
    """int32, 3 `count` + 2 ids (released: 30 boxes, 92 ids), the largest box first.

    Of more boxes than `count` the largest are kept, fewer are filled up with empty ids; `None`, a picture of which no
    boxes are known, is nothing but empty ids, the null condition. `shown` are the corners of the crop.
    """
    empty = vocabulary_size - 1
    ids = [empty] * (3 * count + 2)
    if boxes is None:
        return torch.tensor(ids, dtype=torch.int32)
    largest = sorted(boxes, key=lambda box: -box.width * box.height)[:count]
    for place, box in enumerate(largest):
        assert 0 <= box.category < empty, f"category {box.category} in a vocabulary of {vocabulary_size}"
        corners = (
            _position(box.x, box.y, vocabulary_size),
            _position(box.x + box.width, box.y + box.height, vocabulary_size),
        )
        ids[3 * place : 3 * place + 3] = [*corners, box.category]
    ids[-2:] = [_position(*shown[:2], vocabulary_size), _position(*shown[2:], vocabulary_size)]
    return torch.tensor(ids, dtype=torch.int32)


def boxes_of(ids: Int[Tensor, " n"], vocabulary_size: int) -> list[Box]:
    """The boxes that `ids` stand for, each corner within half a section of where it was."""
    boxes = []
    for first, last, category in ids[:-2].view(-1, 3).tolist():
        if category != vocabulary_size - 1:
            (left, top), (right, bottom) = (_place(corner, vocabulary_size) for corner in (first, last))
            boxes.append(Box(x=left, y=top, width=right - left, height=bottom - top, category=category))
    return boxes


def shown_of(ids: Int[Tensor, " n"], vocabulary_size: int) -> Corners | None:
    """The corners of the crop; None in the null condition."""
    first, last = ids[-2:].tolist()
    if vocabulary_size - 1 in (first, last):
        return None
    return (*_place(first, vocabulary_size), *_place(last, vocabulary_size))


def draw_layout(ids: Int[Tensor, " n"], info: dict[str, Any], size: int) -> Image.Image:
    """The boxes of `ids` with the names of their classes, on white, `size` pixels a side; `info` is latents.json."""
    picture = Image.new("RGB", (size, size), "white")
    pen = ImageDraw.Draw(picture)
    for box in boxes_of(ids, info["layout"]["vocabulary_size"]):
        colour = _COLOURS[box.category % len(_COLOURS)]
        left, top, right, bottom = (
            round(side * (size - 1)) for side in (box.x, box.y, box.x + box.width, box.y + box.height)
        )
        pen.rectangle((left, top, right, bottom), outline=colour, width=max(1, size // 128))
        pen.text((left + 2, top + 1), info["box_classes"][box.category], fill=colour, font_size=max(8, size // 20))
    return picture


def _position(x: float, y: float, vocabulary_size: int) -> int:
    n = sections(vocabulary_size)
    column, row = (floor(min(max(side, 0.0), 1.0) * (n - 1) + 0.5) for side in (x, y))
    return row * n + column


def _place(position: int, vocabulary_size: int) -> tuple[float, float]:
    n = sections(vocabulary_size)
    row, column = divmod(position, n)
    return column / (n - 1), row / (n - 1)
