"""One draw of a picture: the part of it that is shown, mirrored or not, and the same of all that lies on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

from ldm.data.layouts import Corners
from ldm.data.pictures import mirrored
from ldm.data.shards import Box

LEAST = 0.2
"""Part of a box that a crop must leave for the box to be kept."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A square of `size` pixels a side, from (`left`, `top`) on, of a picture of `whole` pixels a side."""

    left: int
    top: int
    size: int
    whole: int
    flip: bool = False

    def of(self, picture: Shaped[Tensor, "*c whole whole"]) -> Shaped[Tensor, "*c size size"]:
        """What it shows of a picture or of a label map."""
        part = picture[..., self.top : self.top + self.size, self.left : self.left + self.size]
        return mirrored(part) if self.flip else part

    def of_boxes(self, boxes: Sequence[Box]) -> tuple[Box, ...]:
        """Boxes in parts of the square, cut at its sides; those of which it shows less than a fifth are left out."""
        shown = (self._of_box(box) for box in boxes)
        return tuple(box for box in shown if box is not None)

    def _of_box(self, box: Box) -> Box | None:
        scale, left, top = self.whole / self.size, self.left / self.size, self.top / self.size
        x, y, width, height = box.x * scale - left, box.y * scale - top, box.width * scale, box.height * scale
        x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + width, 1.0), min(y + height, 1.0)
        if x1 <= x0 or y1 <= y0 or (x1 - x0) * (y1 - y0) < LEAST * width * height:
            return None
        x = 1 - x1 if self.flip else x0
        return Box(x=x, y=y0, width=x1 - x0, height=y1 - y0, category=box.category)

    @property
    def corners(self) -> Corners:
        """Left, top, right and bottom in parts of the whole picture, which is mirrored where this is."""
        left = self.whole - self.left - self.size if self.flip else self.left
        x, y, side = left / self.whole, self.top / self.whole, self.size / self.whole
        return x, y, x + side, y + side


def central(whole: int, size: int) -> View:
    start = (whole - size) // 2
    return View(left=start, top=start, size=size, whole=whole)


def drawn(whole: int, size: int, mirrored: bool, key: torch.Generator) -> View:
    """A square anywhere in the picture; with `mirrored`, flipped with probability one half."""
    across, down, chance = torch.rand(3, generator=key, dtype=torch.float64).tolist()
    places = whole - size + 1
    return View(
        left=int(across * places),
        top=int(down * places),
        size=size,
        whole=whole,
        flip=mirrored and chance < 0.5,
    )
