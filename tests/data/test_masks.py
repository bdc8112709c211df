"""LaMa's holes: of sane sizes, the same whoever else is drawn, the same shape at every size."""

import pytest
import torch

from ldm.data.masks import STYLES, draw_mask
from ldm.data.randomness import generator

AREAS = {"training": (0.25, 0.45), "thin": (0.2, 0.4), "medium": (0.18, 0.35), "thick": (0.15, 0.35)}


def masks(style: str, side: int, count: int) -> torch.Tensor:
    return torch.stack([draw_mask(side, STYLES[style], generator("mask", side, i)) for i in range(count)])


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("side", [16, 64, 200])
def test_there_is_a_hole_of_a_sane_size(style, side):
    drawn = masks(style, side, 100)
    assert drawn.unique().tolist() == [0, 1]
    areas = drawn.float().mean((1, 2))
    assert areas.min() > 0
    least, most = AREAS[style]
    assert least < areas.mean() < most
    assert areas.max() <= STYLES[style].most
    if style == "training":
        assert areas.max() > 0.6, "the limit is of the sets for evaluation"


def test_a_mask_is_the_same_alone_or_after_others():
    assert torch.equal(masks("thick", 64, 5)[3], draw_mask(64, STYLES["thick"], generator("mask", 64, 3)))


@pytest.mark.parametrize("style", STYLES)
def test_pixels_scale_with_the_picture(style):
    """The same draw at twice the size is the same mask but for its edges, unless one of the two was drawn again."""
    pairs = []
    for i in range(60):
        small, large = (draw_mask(side, STYLES[style], generator("mask", i)) for side in (128, 256))
        pairs.append((small == large[::2, ::2]).float().mean().item())
    assert sum(pair > 0.95 for pair in pairs) > 50


def test_boxes_are_as_likely_as_their_weight_and_keep_the_margin():
    """A mask of boxes has only few rows that differ, and they leave the margin open."""
    drawn = masks("training", 256, 200)
    boxes = [mask for mask in drawn if len(mask.unique(dim=0)) <= 9]
    assert 70 < len(boxes) < 130
    for mask in boxes:
        y, x = mask.nonzero().unbind(1)
        assert min(y.min(), x.min(), 255 - y.max(), 255 - x.max()) >= 10
    assert not [mask for mask in masks("thin", 256, 60) if len(mask.unique(dim=0)) <= 9], "thin has no boxes"
