"""caption_colour on pictures made for it: amounts at the edges of the rule, wrong colours, several objects."""

import pytest
import torch
from PIL import Image

from ldm.data.pictures import to_png
from ldm.data.shards import Example, Images, write_shards
from ldm.evaluation.colour import CaptionColour
from ldm.files import write_json, write_manifest

PALETTE = {"red": [214, 32, 44], "blue": [36, 72, 220], "green": [34, 158, 70]}
GROUNDS = {"grey": [[164, 166, 168], [146, 148, 150]]}
CLASSES = ["ground", "red circle", "red square", "blue circle", "green square"]


@pytest.fixture(scope="module")
def rule(tmp_path_factory) -> CaptionColour:
    """Two originals of 20 x 20: `one`, 40 pixels of red; `two`, 40 of red and 40 of blue."""
    folder = tmp_path_factory.mktemp("prepared")
    examples = []
    for id, areas in (("one", {1: 40}), ("two", {1: 40, 3: 40})):
        labels = torch.zeros(400, dtype=torch.uint8)
        start = 0
        for value, area in areas.items():
            labels[start : start + area] = value
            start += area
        label_map = to_png(Image.fromarray(labels.view(20, 20).numpy()))
        examples.append(Example(id=id, image=to_png(Image.new("RGB", (20, 20))), caption="", label_map=label_map))
    write_shards(folder, "test", examples)
    info = {"size": 20, "splits": {"test": 2}, "label_map_classes": CLASSES, "palette": PALETTE, "grounds": GROUNDS}
    write_json(folder / "dataset.json", info)
    write_manifest(folder)
    return CaptionColour(folder, "test")


def painted(**areas: int) -> torch.Tensor:
    """20 x 20 pixels: so many of each colour, the rest grey."""
    pixels = torch.tensor(GROUNDS["grey"][1], dtype=torch.uint8).repeat(400, 1)
    start = 0
    for colour, area in areas.items():
        pixels[start : start + area] = torch.tensor(PALETTE[colour], dtype=torch.uint8)
        start += area
    return pixels.T.reshape(3, 20, 20).contiguous()


@pytest.mark.parametrize(
    ("areas", "right"),
    [
        ({"red": 40}, True),
        ({"red": 20}, True),  # half
        ({"red": 19}, False),
        ({"red": 80}, True),  # twice
        ({"red": 81}, False),
        ({"blue": 40}, False),  # the wrong colour
        ({"red": 40, "blue": 19}, True),  # less than half of the expected area
        ({"red": 40, "blue": 20}, False),
        ({"red": 40, "blue": 15, "green": 15}, True),  # each wrong colour by itself
        ({}, False),
    ],
)
def test_one_object(rule, areas, right):
    assert rule.right(painted(**areas), "a small red circle on a grey ground", "one") is right


@pytest.mark.parametrize(
    ("areas", "right"),
    [({"red": 40, "blue": 40}, True), ({"red": 80}, False), ({"red": 40, "blue": 40, "green": 20}, False)],
)
def test_with_several_objects_all_must_be_there(rule, areas, right):
    assert rule.right(painted(**areas), "a red circle and a blue circle on a grey ground", "two") is right


def test_noise_around_a_colour_is_still_that_colour(rule):
    noise = torch.randint(-20, 21, (3, 20, 20), generator=torch.Generator().manual_seed(0))
    noisy = (painted(red=40).int() + noise).clamp(0, 255).to(torch.uint8)
    assert rule.right(noisy, "a small red circle on a grey ground", "one")


def test_ground_is_no_wrong_colour_and_classes_of_one_colour_add_up(rule):
    assert set(rule.colours) == {"red", "blue", "green"}
    assert rule.painted(painted(red=40)) == {"red": 40, "blue": 0, "green": 0}
    assert rule.expected("one") == {"red": 40, "blue": 0, "green": 0}


def test_captions_of_other_pictures_are_refused(rule):
    with pytest.raises(ValueError, match="does not name the colours of its label map"):
        rule.right(painted(), "a blue circle on a grey ground", "one")
    with pytest.raises(ValueError, match="sample of three: there is no such picture"):
        rule.right(painted(), "a red circle", "three")


def test_drawn_scenes_obey_their_own_captions(scenes):
    rule, images = CaptionColour(scenes, "test"), Images(scenes, "test")
    for index in range(len(images)):
        example = images.example(index)
        assert rule.right(images.pixels(index), example.caption, example.id)


def test_pictures_without_a_palette_are_refused(tmp_path):
    write_shards(tmp_path, "test", [Example(id="a", image=to_png(Image.new("RGB", (16, 16))))])
    write_json(tmp_path / "dataset.json", {"size": 16, "splits": {"test": 1}, "label_map_classes": None})
    write_manifest(tmp_path)
    with pytest.raises(ValueError, match="no palette and label maps"):
        CaptionColour(tmp_path, "test")
