"""Holes for inpainting: random strokes and boxes as LaMa draws them (arXiv 2109.07161)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import ceil, cos, floor, sin

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

ATTEMPTS = 1000


@dataclass(frozen=True, kw_only=True)
class Strokes:
    """Broken lines of 1 to 5 segments; widths and lengths in pixels, drawn evenly from these on up."""

    times: tuple[int, int]
    width: int
    """A segment is 5 to 5 + width wide."""
    length: int
    """A segment is 10 to 10 + length long."""


@dataclass(frozen=True, kw_only=True)
class Boxes:
    times: tuple[int, int]
    side: tuple[int, int]
    margin: int
    """How far boxes stay from the border."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """Strokes or boxes, never both in one mask."""

    reference: int
    """Side of the picture that the pixels are meant for; they scale in proportion."""
    strokes: Strokes
    boxes: Boxes | None
    box_weight: float = 0.0
    """How likely boxes are, against 1 for strokes."""
    most: float = 1.0
    """Largest part of a picture that is hidden; masks that hide more are drawn again."""


STYLES = {
    "training": Style(
        reference=256,
        strokes=Strokes(times=(1, 5), width=100, length=200),
        boxes=Boxes(times=(1, 4), side=(30, 150), margin=10),
        box_weight=1.0,
    ),
    "thin": Style(reference=512, strokes=Strokes(times=(4, 70), width=20, length=100), boxes=None, most=0.5),
    "medium": Style(
        reference=512,
        strokes=Strokes(times=(4, 10), width=100, length=200),
        boxes=Boxes(times=(1, 5), side=(30, 150), margin=0),
        box_weight=0.3,
        most=0.5,
    ),
    "thick": Style(
        reference=512,
        strokes=Strokes(times=(1, 5), width=250, length=450),
        boxes=Boxes(times=(1, 4), side=(30, 300), margin=10),
        box_weight=0.3,
        most=0.5,
    ),
}
"""What LaMa trains on at 256 pixels, and its three sets for evaluation at 512 (paper, section 4.5)."""


def draw_mask(side: int, style: Style, key: torch.Generator) -> UInt8[Tensor, "side side"]:
    """1 in the hole, 0 elsewhere; there always is a hole, and it is at most as large as the style allows."""
    chance = partial(next, _chances(key))
    scale = side / style.reference
    for _ in range(ATTEMPTS):
        mask = np.zeros((side, side), np.uint8)
        if style.boxes is not None and chance() * (1 + style.box_weight) < style.box_weight:
            _draw_boxes(mask, style.boxes, style.reference, scale, chance)
        else:
            _draw_strokes(mask, style.strokes, style.reference, scale, chance)
        if 0 < mask.mean() <= style.most:
            return torch.from_numpy(mask)
    raise ValueError(f"pictures of {side} pixels are too small for masks of this style; use a larger size")


def _chances(key: torch.Generator) -> Iterator[float]:
    while True:
        yield from torch.rand(256, generator=key, dtype=torch.float64).tolist()


def _between(first: int, last: int, chance: Callable[[], float]) -> int:
    return first + floor(chance() * (last - first + 1))


def _draw_boxes(mask: np.ndarray, boxes: Boxes, reference: int, scale: float, chance: Callable[[], float]) -> None:
    for _ in range(_between(*boxes.times, chance)):
        spans = []
        for _ in range(2):
            length = _between(*boxes.side, chance)
            start = _between(boxes.margin, reference - boxes.margin - length, chance)
            first = min(round(start * scale), len(mask) - 1)
            spans.append(slice(first, max(first + 1, round((start + length) * scale))))
        mask[spans[0], spans[1]] = 1


def _draw_strokes(
    mask: np.ndarray, strokes: Strokes, reference: int, scale: float, chance: Callable[[], float]
) -> None:
    for stroke in range(_between(*strokes.times, chance)):
        x, y = chance() * reference, chance() * reference
        for _ in range(_between(1, 5, chance)):
            angle = 0.01 + _between(0, 3, chance)  # radians: LaMa's strokes know four directions, and their mirrors
            angle = -angle if stroke % 2 == 0 else angle
            length, width = 10 + chance() * strokes.length, 5 + chance() * strokes.width
            to_x = min(max(x + length * sin(angle), 0), reference)
            to_y = min(max(y + length * cos(angle), 0), reference)
            _draw_segment(mask, (x * scale, y * scale), (to_x * scale, to_y * scale), max(0.5, width * scale / 2))
            x, y = to_x, to_y


def _draw_segment(mask: np.ndarray, start: tuple[float, float], end: tuple[float, float], radius: float) -> None:
    """Every pixel whose centre is within `radius` of the segment, so that ends are round."""
    (x0, y0), (x1, y1) = start, end
    left, right = max(0, floor(min(x0, x1) - radius)), min(len(mask), ceil(max(x0, x1) + radius))
    top, bottom = max(0, floor(min(y0, y1) - radius)), min(len(mask), ceil(max(y0, y1) + radius))
    x, y = np.arange(left, right)[None, :] + 0.5 - x0, np.arange(top, bottom)[:, None] + 0.5 - y0
    dx, dy = x1 - x0, y1 - y0
    squared = dx * dx + dy * dy
    along = np.clip((x * dx + y * dy) / squared, 0, 1) if squared else np.zeros_like(x + y)
    mask[top:bottom, left:right] |= (x - along * dx) ** 2 + (y - along * dy) ** 2 <= radius * radius
