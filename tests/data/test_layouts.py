"""Boxes as ids: there and back, padding, the largest first, and what a draw shows of them."""

import pytest
import torch

from ldm.data.draws import View, central, drawn
from ldm.data.layouts import WHOLE, boxes_of, check_vocabulary, draw_layout, layout_ids, sections, shown_of
from ldm.data.randomness import generator
from ldm.data.shards import Box

SMALL = Box(x=0.1, y=0.2, width=0.2, height=0.1, category=3)
LARGE = Box(x=0.5, y=0.25, width=0.5, height=0.75, category=0)


def corners(box: Box) -> list[float]:
    return [box.x, box.y, box.x + box.width, box.y + box.height]


def test_the_released_layout_is_92_ids_on_a_grid_of_90():
    ids = layout_ids([SMALL, LARGE], 30, 8192)
    assert (sections(8192), ids.shape, ids.dtype) == (90, (92,), torch.int32)
    assert ids[:3].tolist() == [22 * 90 + 45, 89 * 90 + 89, 0], "the larger first: top-left, bottom-right, class"
    assert ids[6:90].unique().tolist() == [8191]
    assert ids[-2:].tolist() == [0, 8099], "the whole picture is shown"


@pytest.mark.parametrize("vocabulary_size", [17, 64, 256, 1025, 8192])
def test_what_is_decoded_is_what_was_encoded_within_half_a_section(vocabulary_size):
    shown = (0.25, 0.0, 0.75, 0.5)
    ids = layout_ids([LARGE, SMALL], 4, vocabulary_size, shown)
    assert ids.max() < vocabulary_size
    half = 0.5 / (sections(vocabulary_size) - 1) + 1e-9
    for box, back in zip([LARGE, SMALL], boxes_of(ids, vocabulary_size), strict=True):
        assert back.category == box.category
        assert corners(back) == pytest.approx(corners(box), abs=half)
    assert shown_of(ids, vocabulary_size) == pytest.approx(shown, abs=half)


def test_of_more_boxes_the_largest_are_kept_and_none_is_nothing():
    assert [box.category for box in boxes_of(layout_ids([SMALL, LARGE], 1, 8192), 8192)] == [0]
    empty = layout_ids([], 2, 8192)
    assert (boxes_of(empty, 8192), shown_of(empty, 8192)) == ([], WHOLE)
    unknown = layout_ids(None, 2, 8192)
    assert unknown.tolist() == [8191] * 8
    assert (boxes_of(unknown, 8192), shown_of(unknown, 8192)) == ([], None)


def test_a_vocabulary_needs_ids_for_its_classes_and_the_empty_box():
    check_vocabulary(64, 63)
    with pytest.raises(ValueError, match="vocabulary_size 64 is too small for 64 classes"):
        check_vocabulary(64, 64)


def test_a_picture_of_a_layout_has_a_frame_for_each_box():
    info = {"box_classes": ["a cup", "b", "c", "dish"], "layout": {"boxes": 3, "vocabulary_size": 8192}}
    picture = draw_layout(layout_ids([SMALL, LARGE], 3, 8192), info, 128)
    assert picture.size == (128, 128)
    assert picture.getpixel((2, 2)) == (255, 255, 255)
    for box in (SMALL, LARGE):
        x, y = ((box.x + box.width / 2) * 127, (box.y + box.height) * 127)
        near = [picture.getpixel((round(x), min(127, round(y) + shift))) for shift in (-1, 0, 1)]
        assert any(pixel != (255, 255, 255) for pixel in near)


def test_a_crop_cuts_boxes_and_leaves_out_those_of_which_less_than_a_fifth_is_left():
    view = View(left=8, top=0, size=16, whole=32)
    kept = view.of_boxes([Box(x=0.125, y=0.0, width=0.25, height=0.5, category=1), SMALL])
    assert [corners(box) for box in kept] == [[0.0, 0.0, 0.25, 1.0], pytest.approx([0.0, 0.4, 0.1, 0.6])]
    assert view.of_boxes([Box(x=0.15, y=0.2, width=0.12, height=0.1, category=0)]) == (), "a sixth is left"
    assert view.of_boxes([Box(x=0.8, y=0.2, width=0.1, height=0.1, category=0)]) == (), "nothing is left"


def test_a_mirrored_view_is_the_view_of_the_mirrored_picture():
    picture = torch.arange(3 * 32 * 32).view(3, 32, 32)
    view, mirrored = View(left=5, top=9, size=16, whole=32), View(left=5, top=9, size=16, whole=32, flip=True)
    assert torch.equal(mirrored.of(picture), view.of(picture).flip(-1))
    of_mirrored = View(left=32 - 5 - 16, top=9, size=16, whole=32)
    assert torch.equal(mirrored.of(picture), of_mirrored.of(picture.flip(-1)))
    assert mirrored.corners == of_mirrored.corners
    [box] = mirrored.of_boxes([LARGE])
    flipped = Box(x=1 - LARGE.x - LARGE.width, y=LARGE.y, width=LARGE.width, height=LARGE.height, category=0)
    assert corners(box) == pytest.approx(corners(of_mirrored.of_boxes([flipped])[0]))


def test_views_are_drawn_over_the_whole_picture_and_mirrored_half_of_the_time():
    views = [drawn(12, 8, True, generator("view", i)) for i in range(300)]
    assert {view.left for view in views} == {view.top for view in views} == set(range(5))
    assert 110 < sum(view.flip for view in views) < 190
    assert not any(drawn(12, 8, False, generator("view", i)).flip for i in range(50))
    assert (central(12, 8).left, central(12, 8).top) == (2, 2)
