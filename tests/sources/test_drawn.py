"""A drawn scene is a function of seed and index, and everything said of it is what it shows."""

import hashlib
import re

import numpy as np
import pytest
from numpy import ndarray

from ldm.sources.candidate import Candidate
from ldm.sources.config import Drawn
from ldm.sources.drawn import PLACES, Scene, draw, scene
from ldm.sources.drawn import candidates as makes
from ldm.sources.palette import COLOURS, GROUNDS, PAIRS, SHAPES, TEXTURES

COUNT = 60
FILLED = {"circle": np.pi / 4, "square": 1.0, "triangle": 0.5}
"""How much of its box a shape covers."""
WORDS = re.compile(
    rf"a (small|large) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)}) at the ({'|'.join(sorted(PLACES, key=len)[::-1])})"
)

GOLDEN_CAPTION = (
    "a large pink triangle at the top left, a small orange square at the right "
    "and a small green circle at the bottom right on a dotted slate ground"
)
GOLDEN_LABELS = [
    "................",
    "....a...........",
    "...aa...........",
    "..aaaa..........",
    "..aaaaa.........",
    ".aaaaaa.........",
    ".aaaaaaa........",
    "...........bbb..",
    "...........bbb..",
    "...........bbb..",
    "................",
    "...........ccc..",
    "...........cccc.",
    "...........cccc.",
    "............cc..",
    "................",
]
GOLDEN_DIGESTS = ["ec28b0704425645c", "0653a39e52d323b6", "be6fb7443aa2209a", "22e3f980e0f15ac7"]
"""Of the picture and the label map at 32 and at 64 pixels."""


def candidates(config: Drawn) -> list[Candidate]:
    return [make() for make in makes(config)]


def config(objects: int = 1, seed: int = 1, count: int = COUNT, held_out: tuple[str, ...] = ()) -> Drawn:
    return Drawn(kind="drawn", count=count, objects=objects, seed=seed, held_out=list(held_out))


@pytest.fixture(scope="module", params=[1, 2, 4], ids="{} objects".format)
def scenes(request) -> list[Scene]:
    return [scene(config(request.param), index) for index in range(COUNT)]


def drawn(scene: Scene, size: int = 64) -> tuple[ndarray, ndarray]:
    picture, labels = draw(scene, size)
    return np.asarray(picture), np.asarray(labels)


def test_a_scene_is_the_same_at_any_count_and_in_any_order():
    few, many = candidates(config(2, count=5)), candidates(config(2, count=9))
    alone = scene(config(2, count=1), 3)
    for a, b in zip(few, many, strict=False):
        assert (a.id, a.caption) == (b.id, b.caption)
        assert a.view(32) == b.view(32)
    assert few[3].caption == alone.caption
    assert scene(config(2, seed=2), 3) != alone != scene(config(2), 4)


def test_golden_scene():
    golden = scene(config(3), 1)
    assert golden.caption == GOLDEN_CAPTION
    _, labels = draw(golden, 16)
    signs = {1 + thing.pair: sign for thing, sign in zip(golden.things, "abc", strict=True)}
    assert ["".join(signs.get(label, ".") for label in row) for row in np.asarray(labels)] == GOLDEN_LABELS
    digests = [hashlib.sha256(image.tobytes()).hexdigest()[:16] for size in (32, 64) for image in draw(golden, size)]
    assert digests == GOLDEN_DIGESTS


def test_words_say_what_boxes_and_label_map_show(scenes):
    for each in scenes:
        words, things = WORDS.findall(each.caption), each.things
        assert len(words) == len(things)
        picture, labels = drawn(each, 128)
        for (size, colour, shape, place), thing in zip(words, things, strict=True):
            mask = labels == 1 + PAIRS.index(f"{colour} {shape}")
            box = thing.box
            here = mask & inside(box, mask.shape[0])
            assert PAIRS[box.category] == f"{colour} {shape}"
            assert np.abs(np.median(picture[here], axis=0) - COLOURS[colour]).max() == 0
            assert here.mean() / (box.width * box.height) == pytest.approx(FILLED[shape], abs=0.08)
            assert size == ("large" if np.sqrt(here.mean()) > 0.25 else "small")
            row, column = (min(int(at * 3), 2) for at in (thing.y, thing.x))
            assert place == PLACES[3 * row + column]


def test_the_ground_is_as_said(scenes):
    for each in scenes:
        texture, colour = re.search(r"on a (\w+) (\w+) ground$", each.caption).groups()
        picture, labels = drawn(each)
        tones = {tuple(pixel) for pixel in picture[open_ground(labels)].tolist()}
        expected = set(GROUNDS[colour])
        assert tones & expected == (expected if texture != "plain" else {GROUNDS[colour][0]})
        assert len(tones) == 1 or texture != "plain"


def test_every_word_is_used():
    said = " ".join(scene(config(4), index).caption for index in range(COUNT))
    for word in (*COLOURS, *SHAPES, *GROUNDS, *TEXTURES, *PLACES, "small", "large"):
        assert word in said


def test_boxes_hold_their_pixels_and_never_overlap(scenes):
    for each in scenes:
        for size in (16, 64):
            _, labels = drawn(each, size)
            boxes = [inside(thing.box, size) for thing in each.things]
            assert not (labels[~np.any(boxes, axis=0)]).any(), "a labelled pixel outside every box"
            for box, thing in zip(boxes, each.things, strict=True):
                assert set(labels[box]) <= {0, 1 + thing.pair}
                rows, columns = np.nonzero((labels == 1 + thing.pair) & box)
                close = 1.5 / size  # of a triangle's tip less than half a pixel is covered
                assert (columns.max() + 1 - columns.min()) / size == pytest.approx(thing.box.width, abs=2 * close)
                assert (rows.max() + 1 - rows.min()) / size == pytest.approx(thing.box.height, abs=2 * close)
        frames = [thing.box for thing in each.things]
        assert all(b.x >= 0.029 and b.x + b.width <= 0.971 for b in frames)
        assert all(b.y >= 0.029 and b.y + b.height <= 0.971 for b in frames)


def test_a_scene_is_the_same_picture_at_every_size(scenes):
    for each in scenes[:20]:
        small, large = drawn(each, 32)[0].astype(float), drawn(each, 128)[0].astype(float)
        reduced = large.reshape(32, 4, 32, 4, 3).mean((1, 3))
        assert np.abs(small - reduced).mean() < 3


def test_held_out_pairs_are_in_held_out_scenes_only():
    held_out = ("red triangle", "blue circle")
    found = candidates(config(3, held_out=held_out))
    assert {c.split for c in found} == {None, "held_out"}
    for c in found:
        shown = {PAIRS[box.category] for box in c.view(8).boxes}
        assert (c.split == "held_out") == bool(shown & set(held_out))


def test_only_a_scene_of_one_object_has_a_class():
    [one], [two] = candidates(config(1, count=1)), candidates(config(2, count=1))
    assert one.label == PAIRS[one.view(8).boxes[0].category]
    assert two.label is None
    assert one.licence == "CC0-1.0"


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["red triangel"], "'red triangel' is not a colour (red, orange, "),
        (["triangle red"], "and a shape (circle, square, triangle), such as 'red circle'"),
        (list(PAIRS), "at most 12 of the 24 pairs can be held out"),
    ],
)
def test_what_cannot_be_held_out_is_said(pairs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        config(held_out=pairs)


def inside(box, size: int) -> ndarray:
    """The pixels that a box touches."""
    at = np.arange(size)
    columns = (at + 1 > box.x * size) & (at < (box.x + box.width) * size)
    rows = (at + 1 > box.y * size) & (at < (box.y + box.height) * size)
    return rows[:, None] & columns[None, :]


def open_ground(labels: ndarray) -> ndarray:
    """Ground that no object's antialiased edge touches: a triangle's tip reaches two pixels beyond its label."""
    near = np.pad(labels > 0, 2)
    shifted = [near[i : i + len(labels), j : j + len(labels)] for i in range(5) for j in range(5)]
    return ~np.any(shifted, axis=0)
