"""What is cached of a picture lies where it lies on the picture, whatever the draw, the batch and the first stage."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ldm.autoencoder import cache
from ldm.autoencoder.cache import cache_latents
from ldm.autoencoder.config import Latents as Section
from ldm.autoencoder.model import build, load
from ldm.config import check
from ldm.data import pictures
from ldm.data.latents import Latents
from ldm.data.layouts import boxes_of, shown_of
from ldm.data.masks import STYLES, draw_mask
from ldm.data.processes import processes
from ldm.data.randomness import generator
from ldm.data.shards import Box, Example, write_shards
from ldm.files import sha256, write_json, write_manifest
from tests.autoencoder.conftest import RUN
from tests.clips import write_clip

SIZE = 32
COUNTS = {"train": 9, "test": 3}
COLOURS = ((250, 10, 10), (10, 250, 10))
EVERYTHING = {
    "tokens": {"length": 8, "vocabulary_size": 200},
    "layout": {"boxes": 2, "vocabulary_size": 8192},
    "low_resolution": {"factor": 4, "degradation": "bicubic"},
    "label_map": True,
    "mask": {"style": "medium"},
    "grey": True,
}
ASKED = {"dataset": "d", "autoencoder": "a", "vocabulary": "none", "draws": 1, "flip": False}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def thing(index: int) -> tuple[Box, Tensor, Tensor]:
    """A rectangle in one of two colours on grey: its box, the picture and the label map."""
    chance = torch.rand(4, generator=generator("thing", index)).tolist()
    width, height = 4 + int(chance[0] * 10), 4 + int(chance[1] * 10)
    x, y = int(chance[2] * (SIZE - width)), int(chance[3] * (SIZE - height))
    category = index % 2
    picture, labels = torch.full((3, SIZE, SIZE), 120, dtype=torch.uint8), torch.zeros(SIZE, SIZE, dtype=torch.uint8)
    picture[:, y : y + height, x : x + width] = torch.tensor(COLOURS[category], dtype=torch.uint8)[:, None, None]
    labels[y : y + height, x : x + width] = category + 1
    box = Box(x=x / SIZE, y=y / SIZE, width=width / SIZE, height=height / SIZE, category=category)
    return box, picture, labels


def example(index: int, **changes: Any) -> Example:
    box, picture, labels = thing(index)
    known = {
        "label": box.category,
        "caption": f"a {('red', 'green')[box.category]} thing",
        "boxes": (box,),
        "label_map": pictures.to_png(pictures.to_image(labels.expand(3, -1, -1)).convert("L")),
    }
    return Example(id=f"{index:03d}", image=pictures.encode(picture), **(known | changes))


def prepared(folder: Path, **changes: Any) -> Path:
    """Things in two splits; `changes` are to every picture and to dataset.json."""
    folder.mkdir()
    start = 0
    of_examples = {key: value for key, value in changes.items() if key in Example.__dataclass_fields__}
    for split, count in COUNTS.items():
        write_shards(folder, split, (example(i, **of_examples) for i in range(start, start + count)))
        start += count
    info = {
        "size": SIZE,
        "splits": COUNTS,
        "classes": ["red", "green"],
        "box_classes": ["red", "green"],
        "label_map_classes": ["ground", "red", "green"],
    }
    write_json(folder / "dataset.json", info | {key: value for key, value in changes.items() if key in info})
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def things(tmp_path_factory) -> Path:
    return prepared(tmp_path_factory.mktemp("prepared") / "things")


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("weights") / "clip")


@pytest.fixture(scope="module")
def coders(tmp_path_factory, row) -> dict[str, Path]:
    """An untrained first stage of each kind, of factor 2."""
    folders = {}
    for kind in ("kl", "vq", "identity"):
        folders[kind] = folder = tmp_path_factory.mktemp("autoencoders") / kind
        folder.mkdir()
        config: Any = {"kind": "identity", "dataset": "d", "init_from": "none", "perceptual": "none"}
        if kind != "identity":
            section = row(kind).root
            torch.manual_seed(0)
            save_file(build(section).state_dict(), folder / "model.safetensors")
            config = section.model_dump()
        write_json(folder / "config.json", config)
        write_manifest(folder)
    return folders


@pytest.fixture
def cached(tmp_path, things, coders) -> Callable[..., Path]:
    """Latents of the things, with changes to their section."""

    def made(kind: str = "identity", images: Path = things, clip: Path = Path("none"), **changes: Any) -> Path:
        config = check(ASKED | {"batch": 4, "seed": 5, "clip": clip.name} | changes, Section, "latents.things")
        out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        for _ in cache_latents(
            config, RUN, images, coders[kind], Path("none"), clip, out, tmp_path / f"{out.name}-state"
        ):
            pass
        return out

    return made


def rows(folder: Path, split: str = "train") -> tuple[dict[str, Tensor], dict[str, Any], Latents]:
    data = Latents(folder, split)
    return data.read(torch.arange(len(data))), data.info, data


def test_without_options_only_the_latent_is_cached(cached):
    for kind, columns in {"kl": {"mean", "std"}, "vq": {"mean"}, "identity": {"pixels"}}.items():
        values, info, _ = rows(cached(kind))
        assert set(values) == columns | {"label"}
        assert (info["kind"], info["size"], info["vocabulary_size"], info["null_tokens"]) == (kind, SIZE, 0, [])
        side = SIZE // info["factor"]
        assert info["latent_shape"] == [3, side, side]
        assert info["counts"] == COUNTS
        assert (info["layout"], info["mask"], info["low_resolution"], info["clip"]) == (None, None, None, None)
        assert len(info["health"]["kurtosis"]) == 3
        assert (info["health"]["codebook_used"] is not None) == (kind == "vq")


@pytest.mark.parametrize("crop", [None, 24])
def test_boxes_and_label_maps_stay_on_their_things_in_every_draw(cached, crop):
    """The things are the only pixels in their colours: what a draw shows of them, its label map and boxes agree."""
    values, _, data = rows(cached(**EVERYTHING, crop=crop, flip=True, draws=6))
    size = crop or SIZE
    assert values["pixels"].shape == (9 * 6, 3, size, size)
    seen, mirrored = 0, set()
    for i, pixels in enumerate(values["pixels"]):
        category = int(values["label"][i])
        on = (pixels.permute(1, 2, 0) == torch.tensor(COLOURS[category])).all(-1)
        assert torch.equal(values["label_map"][i], on * (category + 1))
        assert torch.equal(values["low_resolution"][i], pictures.low_resolution(pixels, 4))
        boxes = boxes_of(values["layout"][i], 8192)
        whole = thing(int(data.ids[i]))[2] > 0
        assert bool(boxes) == (on.sum() >= 0.2 * whole.sum()), "a fifth must be left of a box"
        if not boxes:
            continue
        seen += 1
        y, x = on.nonzero().unbind(1)
        expected = [x.min() / size, y.min() / size, (x.max() + 1) / size, (y.max() + 1) / size]
        [box] = boxes
        found = [box.x, box.y, box.x + box.width, box.y + box.height]
        torch.testing.assert_close(torch.tensor(found), torch.stack(expected), atol=0.5 / 89 + 1e-4, rtol=0)
        left, top, right, _ = shown_of(values["layout"][i], 8192)
        assert right - left == pytest.approx(size / SIZE, abs=1 / 89)
        start = [round(side * SIZE) for side in (left, top)]
        window = tuple(slice(n, n + size) for n in reversed(start))
        if torch.equal(whole.flip(-1)[window], on) and not torch.equal(whole[window], on):
            mirrored.add(True)
        else:
            assert torch.equal(whole[window], on), "the corners tell where the crop lies in the (mirrored) picture"
            mirrored.add(False)
    assert seen > 30
    assert mirrored == {True, False}
    assert len({pixels.numpy().tobytes() for pixels in values["pixels"]}) > 9, "draws differ"


def test_other_splits_have_one_draw_unmirrored_from_the_middle(cached):
    values, _, data = rows(cached(crop=24, flip=True, draws=3), "test")
    assert data.draws.tolist() == [0, 0, 0]
    for i, pixels in enumerate(values["pixels"]):
        assert torch.equal(pixels, thing(9 + i)[1][:, 4:28, 4:28])


@pytest.mark.parametrize("kind", ["kl", "vq", "identity"])
def test_the_masked_picture_is_encoded_with_minus_one_in_its_hole(cached, coders, kind):
    values, info, data = rows(cached(kind, mask={"style": "medium"}, grey=True, draws=2))
    coder = load(coders[kind])
    assert info["mask"] == {"style": "medium"}
    for i, mask in enumerate(values["mask"]):
        key = generator("mask", 5, data.ids[i], int(data.draws[i]))
        assert torch.equal(mask, draw_mask(SIZE, STYLES["medium"], key)), "a mask does not depend on its batch"
        image = pictures.to_float(thing(int(data.ids[i]))[1])
        masked = torch.where(mask.bool(), -1, image)
        torch.testing.assert_close(values["masked"][i], coder.encode(masked[None]).mean[0], atol=1e-5, rtol=1e-4)
        luma = pictures.to_float(pictures.grey(thing(int(data.ids[i]))[1]))
        assert torch.equal(luma[0], luma[2])
        torch.testing.assert_close(values["grey"][i], coder.encode(luma[None]).mean[0], atol=1e-5, rtol=1e-4)
    assert not torch.equal(values["mask"][0], values["mask"][1]), "each draw has its own"


def test_the_same_section_gives_the_same_bytes(cached):
    asked = EVERYTHING | {"low_resolution": {"factor": 4, "degradation": "bsr"}, "crop": 24, "flip": True, "draws": 2}
    first, second = cached("kl", **asked), cached("kl", **asked)
    assert (first / "manifest.json").read_bytes() == (second / "manifest.json").read_bytes()


@pytest.mark.parametrize("kind", ["kl", "identity"])
def test_no_byte_depends_on_the_number_of_threads(cached, kind, monkeypatch):
    asked = EVERYTHING | {"low_resolution": {"factor": 4, "degradation": "bsr"}, "crop": 24, "flip": True, "draws": 2}
    manifests = set()
    for threads in "013":
        monkeypatch.setenv("LDM_WORKERS", threads)
        manifests.add((cached(kind, **asked) / "manifest.json").read_bytes())
    assert len(manifests) == 1


def test_processes_draw_the_bytes_that_threads_draw(cached, monkeypatch):
    asked = EVERYTHING | {"low_resolution": {"factor": 4, "degradation": "bsr"}, "crop": 24, "flip": True, "draws": 2}
    threads = (cached("kl", **asked) / "manifest.json").read_bytes()
    monkeypatch.setattr(cache, "pool_for", lambda *_: processes(2))
    assert (cached("kl", **asked) / "manifest.json").read_bytes() == threads


def test_a_process_that_is_killed_is_said_in_one_line(cached, monkeypatch):
    pool = processes.__wrapped__(2)
    os.kill(pool.submit(os.getpid).result(), signal.SIGKILL)
    monkeypatch.setattr(cache, "pool_for", lambda *_: pool)
    with pytest.raises(ValueError, match=r"processes that decode pictures was killed.*LDM_WORKERS=2"):
        cached("kl")


def test_what_is_drawn_does_not_depend_on_the_batch(cached):
    drawn = {"mask": {"style": "training"}, "low_resolution": {"factor": 4, "degradation": "bsr_light"}, "crop": 24}
    values = [rows(cached(**drawn, draws=2, flip=True, batch=batch))[0] for batch in (1, 4, 18)]
    for name in ("pixels", "mask", "masked", "low_resolution"):
        assert all(torch.equal(values[0][name], other[name]) for other in values[1:]), name


def test_pictures_of_which_nothing_is_known_are_cached_as_such(cached, tmp_path):
    unknown = {"boxes": None, "label_map": None, "caption": None, "label": None}
    values, info, _ = rows(cached(images=prepared(tmp_path / "bare", **unknown), **EVERYTHING))
    assert values["layout"].unique().tolist() == [8191]
    assert values["label_map"].unique().tolist() == [255]
    assert values["label"].unique().tolist() == [-1]
    assert "tokens" not in values, "there is nothing to make a vocabulary from"
    assert info["null_tokens"] == []


@pytest.mark.parametrize(
    ("asked", "lacking", "message"),
    [
        ({"layout": {"boxes": 2, "vocabulary_size": 100}}, {"box_classes": None}, "no boxes; leave layout out"),
        ({"label_map": True}, {"label_map_classes": None}, "no label maps; leave label_map out"),
        ({"layout": {"boxes": 1, "vocabulary_size": 17}}, {"box_classes": ["a"] * 17}, "too small for 17 classes"),
        ({"crop": 64}, {}, "pictures of 32 pixels have no crop of 64"),
        ({"crop": 30, "low_resolution": {"factor": 4, "degradation": "bsr"}}, {}, "30 is not a multiple of factor 4"),
        (
            {"flip": True, "tokens": EVERYTHING["tokens"]},
            {"caption": "a thing on the Left"},
            r"caption of '000' untrue, for it says 'Left': 'a thing on the Left'; say flip: false",
        ),
    ],
)
def test_what_the_pictures_lack_is_said_in_one_line(cached, tmp_path, asked, lacking, message):
    images = prepared(tmp_path / "lacking", **lacking)
    with pytest.raises(ValueError, match=message) as caught:
        cached(images=images, **asked)
    assert "\n" not in str(caught.value)
    assert str(images) in str(caught.value) or "vocabulary_size" in str(caught.value)


def test_a_flip_is_no_matter_where_captions_are_not_cached(cached, tmp_path):
    cached(images=prepared(tmp_path / "told", caption="on the left"), flip=True)


def test_embeddings_of_a_frozen_clip(cached, clip_folder):
    values, info, _ = rows(cached(clip=clip_folder))
    assert info["shapes"]["clip_text"] == [16, 8]
    assert info["clip"] == sha256(clip_folder / "model.safetensors")
    assert (values["clip_text"].shape, values["clip_image"].shape) == ((9, 16, 8), (9, 1, 6))
    torch.testing.assert_close(values["clip_text"][0], values["clip_text"][2])
    assert not torch.allclose(values["clip_text"][0], values["clip_text"][1]), "red and green"
    assert not torch.allclose(values["clip_image"][0], values["clip_image"][2])
    assert info["vocabulary_size"] == 0


def test_a_picture_without_caption_has_no_embedding_of_one(cached, clip_folder, tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    write_shards(folder, "train", (example(i, **({} if i else {"caption": None})) for i in range(3)))
    about = {"size": SIZE, "splits": {"train": 3}, "classes": None, "box_classes": None, "label_map_classes": None}
    write_json(folder / "dataset.json", about)
    write_manifest(folder)
    values, _, _ = rows(cached(images=folder, clip=clip_folder))
    assert [bool(row.any()) for row in values["clip_text"]] == [False, True, True]
