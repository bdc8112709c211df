"""Boxes and label maps follow their picture through `ldm.data.pictures.square`."""

from collections.abc import Iterable

from PIL import Image

from ldm.data.shards import Box

LEAST_LEFT = 0.2
"""A box that keeps less of its area than this is dropped."""


def cropped_boxes(boxes: Iterable[Box], shape: tuple[int, int], size: int) -> tuple[Box, ...]:
    """`boxes` of a picture of `shape` (width, height) in parts of its central square, cut off at its border.

    Largest first, so that an order does not depend on the file's, and the first few are what the picture shows most.
    """
    width, height, left, top = _frame(shape, size)
    seen = []
    for box in boxes:
        x, right = _cut((box.x * width - left) / size), _cut(((box.x + box.width) * width - left) / size)
        y, bottom = _cut((box.y * height - top) / size), _cut(((box.y + box.height) * height - top) / size)
        area, whole = (right - x) * (bottom - y), box.width * width * box.height * height / size**2
        if area > 0 and area >= LEAST_LEFT * whole:
            seen.append(Box(x=x, y=y, width=right - x, height=bottom - y, category=box.category))
    return tuple(sorted(seen, key=lambda b: (-b.width * b.height, b.category, b.x, b.y, b.width)))


def cropped_map(labels: Image.Image, picture: Image.Image, size: int) -> Image.Image:
    """The label map of `picture` (mode L, of its size), each pixel the class at its middle.

    Raises ValueError where it is of another size.
    """
    if labels.size != picture.size:
        raise ValueError(
            f"its label map is {labels.width} x {labels.height}, the picture {picture.width} x {picture.height}"
        )
    width, height, left, top = _frame(picture.size, size)
    return labels.resize((width, height), Image.Resampling.NEAREST).crop((left, top, left + size, top + size))


def _frame(shape: tuple[int, int], size: int) -> tuple[int, int, int, int]:
    """Width and height after scaling, left and top of the square, in pixels: those of `pictures.square`."""
    width, height = (round(side * size / min(shape)) for side in shape)
    return width, height, (width - size) // 2, (height - size) // 2


def _cut(place: float) -> float:
    return min(max(place, 0.0), 1.0)
