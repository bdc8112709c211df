"""What a model was shown, for people to look at."""

import io
from functools import partial

import pytest
import torch
from PIL import Image

from ldm.data.layouts import layout_ids
from ldm.data.samples import coloured, mask_png
from ldm.data.shards import Box
from ldm.sampling.guides import original
from ldm.sampling.sheet import sheet
from ldm.sampling.shown import shown
from tests.sampling.small import SIDE, information, pictures

INFO = information({}) | {"layout": {"boxes": 2, "vocabulary_size": 8192}, "box_classes": ["cat", "dog"]}


def seen(first_stage, rows, tokens="none", channels="none", inpainted=False):
    return shown({"tokens": tokens, "channels": channels}, inpainted, rows, partial(original, first_stage, rows), INFO)


def test_boxes_are_drawn_and_texts_and_labels_are_not(first_stage):
    box = Box(x=0.25, y=0.25, width=0.5, height=0.5, category=1)
    rows = {"layout": torch.stack([layout_ids([box], 2, 8192), layout_ids(None, 2, 8192)])}
    drawn, empty = seen(first_stage, rows, tokens="layout")
    assert (empty == 255).all()
    assert (drawn[:, SIDE // 4] != 255).any()
    assert seen(first_stage, rows, tokens="text") is None


def test_the_picture_itself_is_shown_where_it_is_there(first_stage, rows):
    given = rows | {"picture": pictures(len(rows["mean"]))}
    out = seen(first_stage, given, channels="mask", inpainted=True)
    hole = (rows["mask"][:, None] > 0).expand_as(out)
    assert (out[hole] == 128).all()
    assert torch.equal(out[~hole], given["picture"][~hole])
    grey = seen(first_stage, given, channels="grey")
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert grey.shape == given["picture"].shape


def test_classes_have_colours_far_from_each_other():
    colours = coloured(torch.arange(182, dtype=torch.uint8)[None]).float()[:, 0].T
    apart = torch.cdist(colours, colours) + 999 * torch.eye(182)
    assert apart.min() > 30
    assert (coloured(torch.full((1, 1), 255, dtype=torch.uint8)) == 0).all()


def test_a_mask_is_white_in_its_hole():
    mask = torch.tensor([[0, 1], [0, 0]], dtype=torch.uint8)
    assert list(Image.open(io.BytesIO(mask_png(mask))).tobytes()) == [0, 255, 0, 0]


@pytest.mark.parametrize(("side", "count", "columns", "down"), [(32, 64, 8, 8), (512, 20, 4, 4), (4096, 3, 1, 1)])
def test_a_sheet_is_a_square_of_as_many_as_fit(side, count, columns, down):
    pairs = [(torch.zeros(3, side, side, dtype=torch.uint8), None)] * count
    assert sheet(pairs).size == (columns * (side + 2) + 2, down * (side + 2) + 2)


def test_the_last_row_of_a_sheet_with_what_was_shown_is_filled_with_white():
    black, white = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.full((3, 8, 8), 255, dtype=torch.uint8)
    made = sheet([(black, white[:, :4, :4])] * 11)
    assert made.size == (8 * 10 + 2, 4 * 10 + 2)
    rows = [[made.getpixel((6 + 10 * x, 6 + 10 * y))[0] for x in range(8)] for y in range(4)]
    assert rows == [[255] * 8, [0] * 8, [255] * 8, [0] * 3 + [255] * 5]
