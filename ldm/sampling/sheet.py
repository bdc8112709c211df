"""A contact sheet of samples, each below what the model was shown."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from ldm.data.pictures import grid

MOST = 64
SIDE = 2048
"""Pixels that a sheet of large pictures may be wide, where it is not one picture alone."""
Picture = UInt8[Tensor, "3 _ _"]


def sheet(pairs: Sequence[tuple[Picture, Picture | None]]) -> Image.Image:
    """As many of the first samples as make a square of at most 8 x 8; `pairs` are of a sample and what was shown.

    What was shown stands in a row of its own above its row of samples, enlarged to their size.
    """
    height, width = pairs[0][0].shape[1:]
    columns = min(max(1, SIDE // width), 8)
    pairs = pairs[: columns * columns]
    if pairs[0][1] is None:
        return grid([sample for sample, _ in pairs], columns)
    tiles = []
    for start in range(0, len(pairs), columns):
        row = pairs[start : start + columns]
        white = [torch.full((3, height, width), 255, dtype=torch.uint8)] * (columns - len(row) if start else 0)
        tiles += [*(_enlarged(seen, height, width) for _, seen in row if seen is not None), *white]
        tiles += [*(sample for sample, _ in row), *white]
    return grid(tiles, min(columns, len(pairs)))


def _enlarged(picture: Picture, height: int, width: int) -> Picture:
    return F.interpolate(picture[None], size=(height, width), mode="nearest")[0]
