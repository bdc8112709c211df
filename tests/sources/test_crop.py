"""Boxes and label maps stay where they were on the picture when it is scaled and cut square."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ldm.data import pictures
from ldm.data.shards import Box
from ldm.sources.crop import cropped_boxes, cropped_map
from ldm.sources.maps import read_map

SIDES = st.integers(64, 200)


def painted(width: int, height: int, box: Box) -> Image.Image:
    pixels = np.zeros((height, width, 3), np.uint8)
    rows, columns = edges(box, width, height)
    pixels[rows, columns] = 255
    return Image.fromarray(pixels)


def edges(box: Box, width: int, height: int) -> tuple[slice, slice]:
    return (
        slice(round(box.y * height), round((box.y + box.height) * height)),
        slice(round(box.x * width), round((box.x + box.width) * width)),
    )


@given(SIDES, SIDES, st.data())
def test_a_box_holds_what_was_painted_in_it(width, height, data):
    left, top = data.draw(st.integers(0, width - 8)), data.draw(st.integers(0, height - 8))
    right, bottom = data.draw(st.integers(left + 8, width)), data.draw(st.integers(top + 8, height))
    box = Box(x=left / width, y=top / height, width=(right - left) / width, height=(bottom - top) / height, category=3)
    size = 32
    square = np.asarray(pictures.square(painted(width, height, box), size))[..., 0] > 127
    kept = cropped_boxes([box], (width, height), size)
    if not kept:
        assert square.sum() <= 0.3 * (right - left) * (bottom - top) * (size / min(width, height)) ** 2
        return
    [inside] = kept
    rows, columns = np.nonzero(square)
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    expected = (inside.x, inside.y, inside.x + inside.width, inside.y + inside.height)
    assert found == pytest.approx([at * size for at in expected], abs=1)
    assert min(expected) >= 0
    assert max(expected) <= 1 + 1e-9
    assert inside.category == 3


@given(SIDES, SIDES, st.integers(8, 64))
def test_a_label_map_is_cut_as_its_picture(width, height, size):
    """Large blocks, so that NEAREST and bicubic agree but at the blocks' edges."""
    blocks = np.random.default_rng(width * height).integers(0, 2, (height, width), dtype=np.uint8)
    blocks = np.asarray(Image.fromarray(blocks[:4, :4]).resize((width, height), Image.Resampling.NEAREST))
    picture = Image.fromarray(np.repeat(blocks[..., None] * 255, 3, axis=2))
    labels = np.asarray(cropped_map(Image.fromarray(blocks), picture, size))
    pixels = np.asarray(pictures.square(picture, size))[..., 0]
    clear = (pixels < 32) | (pixels > 223)
    assert labels.shape == (size, size)
    assert ((pixels > 127) == (labels == 1))[clear].all()


def test_a_box_of_which_less_than_a_fifth_is_left_is_dropped():
    def box(x: float) -> Box:
        return Box(x=x, y=0.0, width=0.25, height=1.0, category=0)

    wide = (200, 100)  # the middle half is kept: 0.25 to 0.75
    assert cropped_boxes([box(0.04)], wide, 50) == ()
    [edge] = cropped_boxes([box(0.06)], wide, 50)
    assert (edge.x, edge.width) == (0.0, pytest.approx(0.12))
    [whole] = cropped_boxes([box(0.3)], wide, 50)
    assert (whole.x, whole.width) == (pytest.approx(0.1), pytest.approx(0.5))
    assert cropped_boxes([Box(x=0.4, y=0.4, width=0.0, height=0.3, category=0)], wide, 50) == ()


def test_boxes_come_largest_first_whatever_their_order():
    boxes = [Box(x=0.1 * n, y=0.1, width=0.05 * n, height=0.2, category=n) for n in range(1, 5)]
    there, back = cropped_boxes(boxes, (64, 64), 32), cropped_boxes(boxes[::-1], (64, 64), 32)
    assert there == back
    assert [box.category for box in there] == [4, 3, 2, 1]


def test_a_label_map_of_another_size_or_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="its label map is 20 x 30, the picture 30 x 20"):
        cropped_map(Image.new("L", (20, 30)), Image.new("RGB", (30, 20)), 16)
    for mode in ("RGB", "I;16", "1"):
        Image.new(mode, (8, 8)).save(tmp_path / "map.png")
        with pytest.raises(ValueError, match=r"its label map: mode .*; save it as PNG with one byte a pixel"):
            read_map((tmp_path / "map.png").read_bytes(), 0, None)
    whole = pictures.to_png(Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)))
    with pytest.raises(ValueError, match="its label map: corrupt or truncated"):
        read_map(whole[:50], 0, None)
    with pytest.raises(ValueError, match=r"its label map: not a picture \(PNG\)"):
        read_map(b"GIF89a", 0, None)
    with pytest.raises(ValueError, match="its label map has class 2, for which label_map_classes has no name"):
        read_map(whole, 0, ("a", "b"))


def test_a_label_map_keeps_its_bytes_and_may_be_shifted():
    rows = np.arange(256, dtype=np.uint8).reshape(16, 16)
    palette = Image.fromarray(rows).convert("L")
    palette.putpalette([value for n in range(256) for value in (n, 0, 255 - n)])
    assert palette.mode == "P"
    assert (np.asarray(read_map(pictures.to_png(Image.fromarray(rows)), 0, None)) == rows).all()
    shifted = np.asarray(read_map(pictures.to_png(Image.fromarray(rows)), 1, None))
    assert shifted[15, 15] == 0, "255 is unlabelled, and 0 once shifted"
    assert (shifted.reshape(-1)[:-1] == rows.reshape(-1)[1:]).all()
