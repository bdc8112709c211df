"""`ldm sample`: every kind of condition from what people write, sizes, pictures to start from, names."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from ldm.cli.estimates import looked_at
from ldm.config import check
from ldm.data.samples import read_samples
from ldm.sampling.config import Samples
from ldm.sampling.sample import sample

from .conftest import RUN, SIDE, end, pixels

STRONG = ("--guidance", 100)
"""Models of three steps hardly listen."""


def test_each_prompt_is_drawn_with_each_seed_and_named_by_both(drawn, tmp_path):
    (tmp_path / "more.txt").write_text("a blue ring\n\n")
    paths = drawn("sample", "text", "--prompt", "A red, square!", "--prompts", "more.txt", "--count", 2, "--seed", 5)
    assert [str(path) for path in paths] == [
        "out/a-red-square-5.png", "out/a-red-square-6.png", "out/a-blue-ring-5.png", "out/a-blue-ring-6.png",
    ]  # fmt: skip
    pictures = [pixels(path) for path in paths]
    assert all(picture.shape == (3, SIDE, SIDE) for picture in pictures)
    assert len({path.read_bytes() for path in paths}) == 4


def test_a_seed_is_the_same_picture_alone_or_among_others(drawn):
    many = drawn("sample", "plain", "--count", 5, "--batch", 2)
    (one,) = drawn("sample", "plain", "--seed", 3, "--out", "alone")
    assert one.name == many[3].name == "plain-3.png"
    assert (pixels(one) - pixels(many[3])).abs().max() <= 1


def test_a_seed_is_that_sample_of_a_row_with_seed_0(drawn, workplace, tmp_path):
    row = {
        "model": "plain", "autoencoder": "kl", "latents": "kl", "weights": "none", "classifier": "none",
        "split": "train", "sampler": {"kind": "ddim", "num_steps": 2, "eta": 1.0}, "guidance": 1.0, "count": 4,
        "batch": 4, "seed": 0,
    }  # fmt: skip
    folders = [workplace / "models/diffusion/plain", workplace / "models/autoencoders/kl", workplace / "latents/kl"]
    out = tmp_path / "samples"
    end(sample(check(row, Samples, ""), RUN, *folders, Path("none"), Path("none"), out, tmp_path / "resume"))
    paths = drawn("sample", "plain", "--count", 4, "--eta", 1)
    assert [path.read_bytes() for path in paths] == [each.image for each in read_samples(out)]


def test_what_is_told_twice_has_a_number_in_its_name(drawn):
    first, second = drawn("sample", "text", "--prompt", "red", "--prompt", "red!")
    assert (first.name, second.name) == ("red-0.png", "red-2-0.png")


def test_a_class_by_name_by_number_and_none(drawn):
    name, number, none = drawn("sample", "label", "--label", "red square", "--label", "1", "--label", "", *STRONG)
    assert (name.name, number.name, none.name) == ("red-square-0.png", "1-0.png", "no-label-0.png")
    assert (pixels(name) - pixels(number)).abs().max() <= 1
    assert (pixels(name) - pixels(none)).abs().max() > 1


def test_boxes_as_prepare_reads_them(drawn, tmp_path):
    box = {"category": "red square", "box": [0.1, 0.1, 0.5, 0.5]}
    (tmp_path / "bare.json").write_text(json.dumps([box]))
    (tmp_path / "row.json").write_text(json.dumps({"objects": [box | {"category": "1"}]}))
    (tmp_path / "other.json").write_text(json.dumps([box | {"box": [0.4, 0.4, 0.6, 0.6]}]))
    bare, row, other = drawn("sample", "layout", *(f"--layout={n}.json" for n in ("bare", "row", "other")), *STRONG)
    assert (pixels(bare) - pixels(row)).abs().max() <= 1
    assert (pixels(bare) - pixels(other)).abs().max() > 1


def test_a_label_map_gives_the_size_whatever_it_is(drawn, tmp_path):
    Image.new("L", (22, 18), 3).save(tmp_path / "one.png")
    Image.new("L", (16, 16), 255).save(tmp_path / "two.png")
    one, two = drawn("sample", "map", "--label-map", "one.png", "--label-map", "two.png")
    assert (one.name, pixels(one).shape) == ("one-0.png", (3, 18, 22))
    assert (two.name, pixels(two).shape) == ("two-0.png", (3, 16, 16))


def test_what_clip_embeds(drawn, workplace, tmp_path):
    Image.new("RGB", (30, 20), "red").save(tmp_path / "red.png")
    clip = ("--clip-weights", workplace / "clip")
    (words,) = drawn("sample", "words", "--prompt", "a red square", *clip)
    (like,) = drawn("sample", "likeness", "--like", "red.png", *clip)
    assert (words.name, like.name) == ("a-red-square-0.png", "red-0.png")


def test_no_words_are_the_null_condition_which_guidance_leaves_where_it_is(drawn, workplace):
    told = ("sample", "words", "--prompt", "", "--clip-weights", workplace / "clip", "--guidance")
    (plain,), (far,) = (drawn(*told, guidance, "--out", guidance) for guidance in ("1", "5"))
    assert (pixels(plain) - pixels(far)).abs().max() <= 1


@pytest.mark.parametrize("sampler", ["ddim", "plms", "dpm_solver"])
def test_any_size_by_any_sampler(drawn, sampler):
    (path,) = drawn("sample", "plain", "--size", "24x32", "--sampler", sampler)
    assert pixels(path).shape == (3, 24, 32)


def test_steps_spaced_as_released_are_others(drawn):
    even, released = (
        drawn("sample", "plain", "--spacing", spacing, "--out", spacing)[0] for spacing in ("even", "released")
    )
    assert not torch.equal(pixels(even), pixels(released))


def test_in_patches(drawn):
    (path,) = drawn("sample", "plain", "--size", "40", "--patches", 16, "--overlap", 8, "--snapshot", 1)
    assert pixels(path).shape == (3, 40, 40)


def test_decoded_in_tiles_of_a_chosen_size(drawn):
    sizes = {"out": 512, "same": 64, "tiled": 32}
    whole, same, tiled = (
        pixels(drawn("sample", "plain", "--size", "64", "--tile", tile, "--out", out)[0]) for out, tile in sizes.items()
    )
    assert torch.equal(whole, same)
    assert not torch.equal(whole, tiled)
    assert (whole - tiled).abs().float().mean() < 8  # norms and attention see their tile alone


def test_a_picture_to_start_from_may_have_any_size(drawn, tmp_path):
    Image.new("RGB", (21, 19), "orange").save(tmp_path / "orange.png")
    (near,) = drawn("sample", "plain-f1", "--start", "orange.png", "--strength", 0.02)
    orange = torch.tensor([255, 165, 0])[:, None, None]
    assert pixels(near).shape == (3, 19, 21)
    assert (pixels(near) - orange).abs().float().mean() < 25
    (cut,) = drawn("sample", "plain", "--start", "orange.png", "--size", "16x32", "--out", "cut")
    assert pixels(cut).shape == (3, 16, 32)


def test_a_classifier_leads_to_the_label(drawn):
    led = "--guide-kind", "classifier", "--classifier", "classifier", "--guide-scale", 5
    free, (red, blue) = drawn("sample", "plain")[0], drawn("sample", "plain", *led, "--label", 0, "--label", 5)
    assert len({path.read_bytes() for path in (free, red, blue)}) == 3
    told, both = (
        drawn("sample", "label", "--label", 0, "--out", "told"),
        drawn("sample", "label", *led, "--label", 0, "--out", "led"),
    )
    assert told[0].read_bytes() != both[0].read_bytes()


@pytest.mark.parametrize("kind", ["low_resolution", "identity", "grey", "small", "clip"])
def test_guided(drawn, workplace, tmp_path, kind):
    Image.new("RGB", (8, 8) if kind == "low_resolution" else (18, 16), "orange").save(tmp_path / "o.png")
    more = {
        "small": ("--size", "32"),
        "clip": ("--prompt", "red", "--clip-weights", workplace / "clip"),
    }.get(kind, ("--guide", "o.png"))
    (path,) = drawn("sample", "plain", "--guide-kind", kind, "--guide-scale", 0.5, *more)
    sizes = {"small": (3, 32, 32), "identity": (3, 16, 18), "grey": (3, 16, 18)}
    assert pixels(path).shape == sizes.get(kind, (3, SIDE, SIDE))


def columns(path: Path, width: int) -> list[torch.Tensor]:
    """The pictures in a strip, which has two pixels of white around each."""
    strip = pixels(path)[:, 2:-2]
    return [strip[:, :, start : start + width] for start in range(2, strip.shape[2] - 2, width + 2)]


def test_estimates_end_in_the_sample_and_change_nothing_of_it(drawn, ldm):
    (alone,) = drawn("sample", "plain", "--size", "16x24", "--out", "alone")
    made, strip = drawn("sample", "plain", "--size", "16x24", "--estimates", 2)
    assert [path.name for path in (made, strip)] == ["plain-0.png", "plain-0-estimates.png"]
    assert made.read_bytes() == alone.read_bytes()
    first, last = columns(strip, 24)
    assert torch.equal(last, pixels(made))
    assert not torch.equal(first, last)
    again = ldm("sample", "plain", "--seed", 0, "--estimates", 1)
    assert (again.exit_code, "out/plain-0.png: there already" in again.stderr) == (1, True)


@pytest.mark.parametrize("sampler", ["ddim", "plms", "dpm_solver"])
def test_estimates_go_from_the_first_step_to_the_last(ldm, sampler):
    result = ldm("sample", "plain", "--steps", 5, "--sampler", sampler, "--estimates", 3, "--count", 2)
    assert result.exit_code == 0, result.output
    paths = [Path(line) for line in result.stdout.splitlines()]
    assert [path.name for path in paths] == [f"plain-{seed}{end}.png" for seed in (0, 1) for end in ("", "-estimates")]
    for made, strip in zip(paths[::2], paths[1::2], strict=True):
        parts = columns(strip, SIDE)
        assert len(parts) == 3
        assert torch.equal(parts[-1], pixels(made))


def test_estimates_on_the_way_to_a_larger_picture_have_its_size(drawn):
    made, strip = drawn(
        "sample", "plain", "--guide-kind", "small", "--guide-scale", 0.1, "--size", "32", "--estimates", 4
    )
    parts = columns(strip, 32)
    assert len(parts) == 4
    assert torch.equal(parts[-1], pixels(made))


@pytest.mark.parametrize(
    ("count", "steps", "expected"), [(0, 5, []), (1, 5, [5]), (2, 5, [1, 5]), (3, 50, [1, 26, 50])]
)
def test_estimates_are_evenly_spaced(count, steps, expected):
    assert looked_at(count, steps) == expected
