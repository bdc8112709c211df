"""Other methods' pictures: matched to their originals, described as a model's are, and refused in one line."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.config import check
from ldm.data.latents import write_latents
from ldm.data.pictures import decode, encode, resize, to_image
from ldm.data.samples import read_samples
from ldm.files import read_json, write_json, write_manifest
from ldm.sampling.collect import collect
from ldm.sampling.config import Method, Samples
from ldm.sampling.matched import few, matched
from ldm.sampling.sample import sample
from tests.sampling.small import ROWS, RUN, SIDE, information, pictures

BICUBIC = {"kind": "bicubic", "latents": "l", "split": "test", "count": 5, "folder": "data/raw/none"}
FOLDER = BICUBIC | {"kind": "folder", "folder": "data/raw/x", "condition": {"tokens": "none", "channels": "mask"}}
MADE = pictures(ROWS, seed=9)


def collected(row, latents, folder, out, **changes):
    for progress in collect(check(row | changes, Method, "methods.x"), latents, folder, out):
        last = progress
    assert last.done == last.total
    return out


@pytest.fixture
def latents(rows, tmp_path):
    """Latents that hold their pictures, as all do that are cached with masks; ids as of files in folders."""
    folder = tmp_path / "latents"
    columns = rows | {"picture": pictures(ROWS)}
    shapes = {name: values.shape[1:] for name, values in columns.items()}
    folder.mkdir()
    with write_latents(folder, "test", shapes) as append:
        append([f"a/{i}.jpg" for i in range(ROWS)], [0] * ROWS, [0] * ROWS, columns, ["a caption"] * ROWS)
    write_json(folder / "latents.json", information(shapes))
    write_manifest(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    for i, pixels in enumerate(MADE):
        (made / f"{i}.png").write_bytes(encode(pixels))
    return made


def test_bicubic_is_the_low_resolution_picture_enlarged_beside_what_a_model_has(folders, tmp_path):
    """Same originals in the same order, same description: only the picture is another."""
    out = collected(BICUBIC, folders / "latents", tmp_path, tmp_path / "out")
    names = {"model": "m", "autoencoder": "a", "latents": "l", "weights": "none", "classifier": "none", "split": "test"}
    few_steps = {"sampler": {"kind": "ddim", "num_steps": 2, "eta": 0.0}, "guidance": 1.0, "batch": 2, "seed": 3}
    row = check(names | few_steps | {"count": 5}, Samples, "")
    model, none = folders / "low_resolution", folders / "none"
    coder, beside, resume = folders / "autoencoder", tmp_path / "beside", tmp_path / "resume"
    list(sample(row, RUN, model, coder, folders / "latents", none, none, beside, resume))
    for ours, theirs in zip(read_samples(beside), read_samples(out), strict=True):
        assert torch.equal(decode(theirs.image), resize(decode(theirs.low_resolution), SIDE, SIDE))
        assert vars(ours) | {"image": b""} == vars(theirs) | {"image": b""}
        assert ours.image != theirs.image
    assert {path.name for path in out.iterdir()} == {path.name for path in beside.iterdir()}
    assert Image.open(out / "sheet.png").size == Image.open(beside / "sheet.png").size
    about, models = read_json(out / "sampling.json"), read_json(beside / "sampling.json")
    assert about == {
        "method": "bicubic", "split": "test", "count": 5, "condition": {"tokens": "none", "channels": "low_resolution"}
    }  # fmt: skip
    assert {key: models[key] for key in about} == about | {"method": "model"}


def test_pictures_of_a_folder_stand_under_their_originals_with_what_was_shown(latents, folder, tmp_path):
    out = collected(FOLDER, latents, folder, tmp_path / "out")
    originals = pictures(ROWS)
    found = list(read_samples(out))
    assert len({row.id for row in found}) == 5
    for row in found:
        i = int(row.id[2])
        assert torch.equal(decode(row.image), MADE[i])
        hole = torch.from_numpy(np.array(Image.open(io.BytesIO(row.mask)))) == 255
        assert torch.equal(decode(row.shown)[:, ~hole], originals[i][:, ~hole])
        assert (decode(row.shown)[:, hole] == 128).all()
        assert (row.caption, row.label) == ("a caption", 0)
    assert read_json(out / "sampling.json")["folder"] == "data/raw/x"


def test_the_same_again_is_the_same_bytes_and_what_lay_there_goes(latents, folder, tmp_path):
    first, second = (collected(FOLDER, latents, folder, tmp_path / name) for name in "12")
    (first / "left.txt").write_text("by an earlier run")
    collected(FOLDER, latents, folder, first)
    contents = [{path.name: path.read_bytes() for path in out.iterdir()} for out in (first, second)]
    assert contents[0] == contents[1]


def test_how_many_are_read_at_once_changes_no_byte(latents, folder, tmp_path, monkeypatch):
    whole = collected(FOLDER, latents, folder, tmp_path / "whole")
    monkeypatch.setattr("ldm.sampling.collect.BATCH", 2)
    parts = collected(FOLDER, latents, folder, tmp_path / "parts")
    for path in whole.iterdir():
        assert (parts / path.name).read_bytes() == path.read_bytes()


def test_a_picture_is_read_as_prepare_reads_one(latents, folder, tmp_path):
    """Turned upright, 16 bits cut to 8, transparency on white."""
    turned, deep, clear = to_image(MADE[0]).transpose(Image.Transpose.ROTATE_90), MADE[1][0], to_image(MADE[2])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(folder / "0.png", exif=exif)
    Image.fromarray(deep.numpy().astype(np.uint16) * 256 + 77).save(folder / "1.png")
    clear.putalpha(0)
    clear.save(folder / "2.png")
    images = {
        row.id: decode(row.image) for row in read_samples(collected(FOLDER, latents, folder, tmp_path / "o", count=6))
    }
    assert torch.equal(images["a/0.jpg"], MADE[0])
    assert torch.equal(images["a/1.jpg"], deep.expand(3, -1, -1))
    assert (images["a/2.jpg"] == 255).all()


@pytest.mark.parametrize("name", ["a/7.png", "7.webp", "a/7.jpg.png", "b/7.JPG"])
def test_a_picture_is_known_by_its_originals_id_or_the_last_part_of_it(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    for passed_over in (".hidden.png", "README.md", "notes.txt"):
        (tmp_path / passed_over).touch()
    assert matched(tmp_path, ["a/7.jpg", "a/8.jpg"]) == {"a/7.jpg": path}


def test_an_id_may_have_dots_and_no_ending(tmp_path):
    for name in ("scene-1.5.png", "scene-1.png"):
        (tmp_path / name).touch()
    assert matched(tmp_path, ["scene-1.5", "scene-1"]).keys() == {"scene-1.5", "scene-1"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no pictures there .* name each after its original: a/1.jpg, a/2.jpg, b/2.jpg"),
        (["x.png"], "1 pictures fit no original"),
        (["1.png", "x.png", "y.png"], "2 pictures fit no original of the split: x.png, y.png; name each"),
        (["1.png", "2.png"], "1 pictures fit several originals: 2.png; put them in folders"),
        (["1.png", "1.webp"], "1 originals have more than one picture: 1.png and 1.webp; keep one of each"),
    ],
)
def test_a_name_that_does_not_tell_its_original_is_refused(tmp_path, names, message):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=message) as error:
        matched(tmp_path, ["a/1.jpg", "a/2.jpg", "b/2.jpg"])
    assert "\n" not in str(error.value)


def spoiled(folder, *names, by):
    for name in names:
        by(folder / name)


@pytest.mark.parametrize(
    ("by", "changes", "message"),
    [
        (lambda path: path.unlink(), {"count": 6}, "no picture for 2 of 6 originals: a/[01].jpg, a/[01].jpg; add them"),
        (lambda path: Image.new("RGB", (8, 9)).save(path), {"count": 6}, "2 pictures.* [01].png has 8 x 9 pixels, its"),
        (lambda path: path.write_bytes(b"no"), {"count": 6}, "2 pictures cannot be used: [01].png is not a picture"),
        (lambda path: path.write_bytes(path.read_bytes()[:99]), {"count": 6}, "[01].png is corrupt or truncated"),
        (lambda path: None, {"count": 7}, "count 7 is more than the 6 originals in test of .*; say count: 6"),
    ],
)
def test_missing_and_unusable_pictures_are_counted_and_named(latents, folder, tmp_path, by, changes, message):
    spoiled(folder, "0.png", "1.png", by=by)
    with pytest.raises(ValueError, match=message) as error:
        collected(FOLDER, latents, folder, tmp_path / "out", **changes)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_latents_that_lack_what_the_method_was_told_are_refused(folders, tmp_path):
    boxes = FOLDER | {"condition": {"tokens": "layout", "channels": "none"}}
    with pytest.raises(ValueError, match="no column layout, which the method was told of"):
        collected(boxes, folders / "latents", tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match="not found; put the pictures there"):
        collected(FOLDER, folders / "latents", tmp_path / "nowhere", tmp_path / "out")


def test_few_says_how_many_more():
    assert few(["a"]) == "a"
    assert few("abcde") == "a, b, c and 2 more"
