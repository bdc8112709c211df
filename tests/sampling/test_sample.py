"""The sample stage: resumed is uninterrupted, a sample does not depend on the others, and what it leaves on disk."""

import io
import json
import shutil

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ldm.config import check
from ldm.data import samples as shards
from ldm.data.pictures import decode
from ldm.data.samples import read_samples
from ldm.files import read_json, sha256, write_json, write_manifest
from ldm.sampling.config import Samples
from ldm.sampling.sample import sample
from tests.clips import write_clip
from tests.sampling.small import ROWS, RUN, SIDE, diffusion_section, save

NAMES = {"model": "m", "autoencoder": "a", "latents": "l", "weights": "none", "classifier": "none", "split": "test"}
FEW = {"sampler": {"kind": "ddim", "num_steps": 2, "eta": 1.0}, "guidance": 1.0, "batch": 2, "count": 5, "seed": 3}


def section(**changes):
    return check(NAMES | FEW | changes, Samples, "samples.x")


def run(folders, out, resume, name="text", **changes):
    given = [folders / part for part in (name, "autoencoder", "latents", "none", changes.get("classifier", "none"))]
    return sample(section(**changes), RUN, *given, out, resume)


def ended(folders, tmp_path, name="text", **changes):
    out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
    for progress in run(folders, out, tmp_path / "resume", name, **changes):
        last = progress
    assert last.done == last.total
    return out


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def images(folder):
    return [row.image for row in read_samples(folder)]


def test_stopped_after_any_batch_it_ends_in_the_same_bytes(folders, tmp_path):
    whole = contents(ended(folders, tmp_path, guidance=2.0))
    for stop in (1, 2, 3):
        resume, out = tmp_path / f"resume-{stop}", tmp_path / f"stopped-{stop}"
        stopped = run(folders, out, resume, guidance=2.0)
        for _ in range(stop):
            next(stopped)
        stopped.close()
        assert not out.exists()
        dones = [progress.done for progress in run(folders, out, resume, guidance=2.0)]
        assert dones == [2, 4, 5]
        assert contents(out) == whole
        assert not resume.exists()


def test_a_kept_batch_that_the_disk_damaged_is_drawn_again(folders, tmp_path):
    whole = contents(ended(folders, tmp_path))
    for damage in (
        lambda b: b[:-1] + bytes([b[-1] ^ 1]),
        lambda b: b[: len(b) // 2],
        lambda b: b"",
        lambda b: b"x" + b,
    ):
        stopped = run(folders, tmp_path / "again", tmp_path / "resume")
        next(stopped)
        stopped.close()
        kept = tmp_path / "resume" / "batch-000000000.safetensors"
        kept.write_bytes(damage(kept.read_bytes()))
        list(run(folders, tmp_path / "again", tmp_path / "resume"))
        assert contents(tmp_path / "again") == whole


@pytest.mark.parametrize(
    "changes",
    [{}, {"size": [48, 32]}, {"start": {"strength": 0.5}}, {"sampler": {"kind": "ddpm"}, "start": {"strength": 0.05}}],
    ids=str,
)
def test_a_sample_does_not_depend_on_how_many_are_wanted(folders, tmp_path, changes):
    five = images(ended(folders, tmp_path, name="plain", **changes))
    assert images(ended(folders, tmp_path, name="plain", **changes | {"count": 3})) == five[:3]
    assert len(set(five)) == 5


def test_alone_or_in_another_batch_it_is_the_same_but_for_rounding(folders, tmp_path):
    two, three = (
        torch.stack([decode(png) for png in images(ended(folders, tmp_path, batch=batch))]).int() for batch in (2, 3)
    )
    assert (two - three).abs().max() <= 1


def test_samples_are_written_a_few_at_a_time_and_read_back_the_same(folders, tmp_path, monkeypatch):
    one = ended(folders, tmp_path)
    monkeypatch.setattr(shards, "GROUP_ROWS", 2)
    monkeypatch.setattr(shards, "SHARD_ROWS", 4)
    parts = ended(folders, tmp_path)
    assert sorted(path.name for path in parts.glob("*.parquet")) == ["samples-00000.parquet", "samples-00001.parquet"]
    assert pq.ParquetFile(parts / "samples-00000.parquet").metadata.num_row_groups == 2
    assert list(read_samples(parts)) == list(read_samples(one))
    assert [row.seed for row in read_samples(one)] == [0, 1, 2, 3, 4]


def test_what_was_shown_stands_beside_the_sample(folders, tmp_path):
    assert all(row.shown is None and row.mask is None for row in read_samples(ended(folders, tmp_path)))
    for row in read_samples(ended(folders, tmp_path, "low_resolution")):
        assert row.shown == row.low_resolution is not None
    for row in read_samples(ended(folders, tmp_path, "label_map")):
        assert 2 <= len(decode(row.shown).flatten(1).unique(dim=1).T) <= 3, "three classes, three colours"
    for row in read_samples(ended(folders, tmp_path, "mask")):
        hole = torch.tensor(list(Image.open(io.BytesIO(row.mask)).tobytes())).view(SIDE, SIDE) == 255
        seen, made = decode(row.shown), decode(row.image)
        assert (seen[:, hole] == 128).all()
        assert torch.equal(made[:, ~hole], seen[:, ~hole]), "the known region is the picture's, to the byte"
        assert not torch.equal(made[:, hole], seen[:, hole])


def test_the_sheet_has_what_was_shown_above_each_row_of_samples(folders, tmp_path):
    plain, shown = (Image.open(ended(folders, tmp_path, name) / "sheet.png") for name in ("plain", "low_resolution"))
    assert plain.size == (5 * (SIDE + 2) + 2, SIDE + 2 + 2)
    assert shown.size == (plain.width, 2 * (SIDE + 2) + 2)


def test_sampling_json_names_every_option_that_had_an_effect(folders, tmp_path):
    out = ended(folders, tmp_path, sampler={"kind": "ddpm"}, start={"strength": 0.1}, size=[32, 32])
    about = json.loads((out / "sampling.json").read_text())
    assert about.pop("model_identity")
    assert about.pop("autoencoder_identity")
    assert about == {
        "condition": {"tokens": "text", "channels": "none"}, "count": 5, "guidance": 1.0, "method": "model",
        "model": "m", "sampler": {"kind": "ddpm", "num_steps": 10}, "seed": 3, "size": [32, 32], "split": "test",
        "start": {"strength": 0.1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("plain", {"guidance": 2.0}, "guidance 2 leads away from the null condition.*set guidance to 1.0"),
        ("text", {"size": [30, 32]}, r"size \[30, 32\]: height and width must each be a multiple of 8"),
        ("text", {"patches": {"size": 12, "overlap": 4}}, "patches.size 12 must be a multiple of 8"),
        ("text", {"patches": {"size": 16, "overlap": 13}}, "overlap 13 comes to all of size 16.*at most 12"),
        ("text", {"snapshot": 7}, "no snapshot of step 7"),
        ("text", {"sampler": {"kind": "plms", "num_steps": 101}}, "num_steps 101 must be from 1 to"),
        ("text", {"sampler": {"kind": "plms", "num_steps": 30, "spacing": "released"}}, "spacing: even"),
        ("text", {"start": {"strength": 0.01}}, "num_steps 2 is more than the 1 steps"),
        ("text", {"start": {"strength": 0.5}, "size": [64, 64]}, "start needs pictures of the sampled size"),
        ("mask", {"size": [64, 64]}, "inpainting needs pictures of the sampled size"),
        ("text", {"guide": {"kind": "small", "scale": 1.0}, "size": [48, 48]}, "2, 3, ... times the training's"),
    ],
)
def test_what_a_model_cannot_do_is_one_line(folders, tmp_path, name, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        list(run(folders, tmp_path / "out", tmp_path / "resume", name, **changes))
    assert "\n" not in str(error.value)


def test_a_guide_without_its_network_is_refused():
    with pytest.raises(ValueError, match="guide needs a network: name a folder of data/weights"):
        section(guide={"kind": "clip", "scale": 1.0})
    with pytest.raises(ValueError, match="weights vgg are used by no guide"):
        section(weights="vgg")


def told(folders, tmp_path, name, **changes):
    """Latents as those of the fixture, described otherwise."""
    copy = tmp_path / name
    shutil.copytree(folders / "latents", copy)
    write_json(copy / "latents.json", json.loads((copy / "latents.json").read_text()) | changes)
    write_manifest(copy)
    return copy


def imported(folders, tmp_path, tokens, channels, model, **changes):
    """A model folder as an import leaves it."""
    info = json.loads((folders / "latents" / "latents.json").read_text()) | changes
    save(model(tokens, channels, info), tmp_path / "model" / "ema.safetensors")
    about = {"diffusion": diffusion_section(tokens, channels), "latents": info, "imported": {"file": "model.ckpt"}}
    write_json(tmp_path / "model" / "config.json", about)
    write_manifest(tmp_path / "model")
    return tmp_path / "model"


def sampled(folders, tmp_path, model, latents, guide_of=None, **changes):
    stage = sample(
        section(**changes), RUN, model, folders / "autoencoder", latents, folders / "none",
        guide_of or folders / "none", tmp_path / "out", tmp_path / "resume",
    )  # fmt: skip
    return list(stage)


LABEL = {"kind": "label", "drop": 0.1, "width": 16}


def test_an_import_knows_its_classes_by_count(folders, built, tmp_path):
    maps = {"kind": "label_map", "drop": 0.0}
    numbered = {"classes": ["class 0", "class 1"], "label_map_classes": ["class 0", "class 1", "class 2"]}
    model = imported(folders, tmp_path, LABEL, maps, built, **numbered)
    sampled(folders, tmp_path, model, told(folders, tmp_path, "named", classes=["cat", "dog"]))
    with pytest.raises(ValueError, match="differ in classes, so its label would mean other things"):
        sampled(folders, tmp_path, model, told(folders, tmp_path, "more", classes=["cat", "dog", "cow"]))


TRAINING = diffusion_section()["train"]
CLASSES = {"classes": ["cat", "dog"]}
GUIDED = {"guide": {"kind": "classifier", "scale": 2.0}, "classifier": "c"}


def classifying(folders, tmp_path, model, **changes):
    """The folder of a classifier of latents, as its training leaves it."""
    info = json.loads((folders / "latents" / "latents.json").read_text()) | CLASSES
    keys = {"objective": "label", "train": TRAINING | {"loss": "cross_entropy"}} | changes
    save(model(info=info, **keys), tmp_path / "classifier" / "ema.safetensors")
    write_json(tmp_path / "classifier" / "config.json", {"diffusion": diffusion_section(**keys), "latents": info})
    write_manifest(tmp_path / "classifier")
    return tmp_path / "classifier"


def test_a_classifier_guides_and_is_written_down(folders, built, tmp_path):
    latents, classifier = told(folders, tmp_path, "named", **CLASSES), classifying(folders, tmp_path, built)
    sampled(folders, tmp_path, folders / "plain", latents, classifier, **GUIDED)
    about = read_json(tmp_path / "out" / "sampling.json")
    assert (about["guide"], about["classifier"]) == (GUIDED["guide"], "c")
    assert about["classifier_identity"] == sha256(classifier / "manifest.json")


def test_a_classifier_that_does_not_belong_there_is_refused(folders, built, tmp_path):
    named, plain = told(folders, tmp_path, "named", **CLASSES), folders / "plain"
    with pytest.raises(ValueError, match="plain draws pictures; a guide needs a model of objective: label"):
        sampled(folders, tmp_path, plain, named, plain, **GUIDED)
    classifier = classifying(folders, tmp_path, built)
    with pytest.raises(ValueError, match=r"this model is a classifier \(objective: label\): it guides others"):
        sampled(folders, tmp_path, classifier, named)
    with pytest.raises(ValueError, match="classifier was trained on differ in classes"):
        sampled(folders, tmp_path, plain, told(folders, tmp_path, "more", classes=["cow"]), classifier, **GUIDED)
    shutil.rmtree(classifier)
    other = classifying(folders, tmp_path, built, scale=2.0)
    with pytest.raises(ValueError, match="other noisy latents: give it the model's schedule and scale"):
        sampled(folders, tmp_path, plain, named, other, **GUIDED)


def test_a_guide_and_its_classifier_come_together():
    with pytest.raises(ValueError, match="needs one: name a diffusion model of objective: label"):
        section(guide=GUIDED["guide"])
    with pytest.raises(ValueError, match="classifier c is used by no guide: set classifier to none"):
        section(classifier="c")


def test_latents_that_lack_or_mean_something_else_are_refused(folders, tmp_path):
    low = folders / "low_resolution"
    shapes = {n: s for n, s in read_json(folders / "latents" / "latents.json")["shapes"].items() if n != "mask"}
    for name, changes, message in (
        ("low_resolution", {"low_resolution": {"factor": 2, "degradation": "bicubic"}}, "differ in low_resolution"),
        ("label_map", {"label_map_classes": ["sky", "road", "sea"]}, "differ in label_map_classes"),
        ("mask", {"shapes": shapes}, "condition.channels: mask needs latents"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            sampled(folders, tmp_path, folders / name, told(folders, tmp_path, name, **changes))
        assert "\n" not in str(error.value)
    degraded = {"low_resolution": {"factor": 4, "degradation": "bsr"}}
    sampled(folders, tmp_path, low, told(folders, tmp_path, "degraded", **degraded), count=1)


def test_training_pictures_as_they_were_mirrored_are_said_to_be(folders, tmp_path):
    latents = told(folders, tmp_path, "train", random_views=True, counts={"train": ROWS})
    (latents / "test-00000.arrow").rename(latents / "train-00000.arrow")
    write_manifest(latents)
    sampled(folders, tmp_path, folders / "mask", latents, split="train", count=1)
    assert read_json(tmp_path / "out" / "sampling.json")["random_views"]


def test_known_pictures_and_a_smaller_sample_exclude_each_other():
    with pytest.raises(ValueError, match="keep_known has no picture of the smaller sample"):
        section(keep_known=True, size=[64, 64], guide={"kind": "small", "scale": 1.0})


@pytest.mark.parametrize("weights", ["text/ema.safetensors", "autoencoder/model.safetensors"])
def test_damaged_weights_are_one_line_with_the_file(folders, tmp_path, weights):
    copied = tmp_path / "copied"
    shutil.copytree(folders, copied)
    path = copied / weights
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="cannot be read") as caught:
        ended(copied, tmp_path)
    assert str(caught.value).startswith(f"{path}: its weights cannot be read")
    assert "\n" not in str(caught.value)


def test_a_clip_guide_without_a_prompt_holds_each_sample_to_its_rows_caption(folders, tmp_path):
    weights = write_clip(tmp_path / "clip")

    def drawn(name, **guide):
        config = section(guide={"kind": "clip", "scale": 300.0} | guide, weights="clip", batch=1, count=3)
        places = (folders / "plain", folders / "autoencoder", folders / "latents", weights, folders / "none")
        list(sample(config, RUN, *places, tmp_path / name, tmp_path / f"{name}-resume"))
        return list(read_samples(tmp_path / name))

    captioned = drawn("captioned")
    assert len({row.caption for row in captioned}) == 3
    for place, row in enumerate(captioned):
        prompted = drawn(f"prompted-{place}", prompt=row.caption)
        alike = [a.image == b.image for a, b in zip(captioned, prompted, strict=True)]
        assert alike == [i == place for i in range(3)]
