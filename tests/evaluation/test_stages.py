"""The three stages from end to end on drawn scenes: honest keys, the laws of each figure, equal bytes."""

import json
import re
import shutil

import pyarrow.parquet as pq
import pytest
import torch

from ldm.data.pictures import low_resolution
from ldm.data.shards import Images
from ldm.evaluation.autoencoder import evaluate_autoencoder
from ldm.evaluation.config import AutoencoderEvaluation, Reference, SampleEvaluation
from ldm.evaluation.reference import reference
from ldm.evaluation.samples import evaluate
from ldm.files import read_json, write_json, write_manifest


@pytest.fixture(scope="module")
def real(run, scenes, none, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "scenes-test"
    list(reference(Reference(dataset="scenes", split="test", features="none", batch=16), run, scenes, none, out))
    return out


@pytest.fixture(scope="module")
def originals(scenes):
    images = Images(scenes, "test")
    examples = [images.example(i) for i in range(len(images))]
    return images.ids, [images.pixels(i) for i in range(len(images))], [e.caption for e in examples]


def section(*figures: str, batch: int = 16) -> SampleEvaluation:
    names = dict.fromkeys(("samples", "dataset", "reference", "features", "perceptual", "clip"), "x")
    return SampleEvaluation(**names, figures=list(figures), batch=batch)


def measure(config, run, samples, scenes, real, none, out):
    steps = list(evaluate(config, run, samples, scenes, real, none, none, none, out))
    assert steps[-1].done == steps[-1].total
    return json.loads(out.read_text())


def test_reference_says_what_it_measured_and_is_the_same_bytes_again(run, scenes, none, real, tmp_path):
    again = tmp_path / "again"
    list(reference(Reference(dataset="scenes", split="test", features="none", batch=16), run, scenes, none, again))
    for name in ("statistics.safetensors", "reference.json", "manifest.json"):
        assert (again / name).read_bytes() == (real / name).read_bytes()
    about = json.loads((real / "reference.json").read_text())
    assert about["features"] == "random_conv"
    assert (about["count"], about["split"], about["dimensions"]) == (24, "test", 102)
    assert about["floor"]["frechet_distance"] > 0


def test_a_reference_of_crops_is_for_samples_of_models_that_were_trained_on_crops(
    run, scenes, none, sampled, originals, tmp_path
):
    ids, pictures, captions = originals
    side = pictures[0].shape[-1]
    half, edge = side // 2, side // 4
    config = Reference(dataset="scenes", split="test", features="none", crop=half, batch=16)
    list(reference(config, run, scenes, none, tmp_path / "real"))
    assert read_json(tmp_path / "real" / "reference.json")["size"] == half
    middles = [p[:, edge : edge + half, edge : edge + half] for p in pictures]
    samples = sampled(tmp_path / "s", ids, middles, captions=captions)
    measured = measure(section("fidelity"), run, samples, scenes, tmp_path / "real", none, tmp_path / "m.json")
    assert measured["figures"]["fd_random_conv"] == pytest.approx(0, abs=1e-3)
    with pytest.raises(ValueError, match=f"no crop of {side + 1}; lower the reference's crop"):
        list(reference(config.model_copy(update={"crop": side + 1}), run, scenes, none, tmp_path / "large"))


@pytest.fixture(scope="module")
def perfect(run, sampled, scenes, none, real, originals, tmp_path_factory):
    """What is measured of samples that are the originals themselves."""
    folder = tmp_path_factory.mktemp("perfect")
    ids, pictures, captions = originals
    low = [low_resolution(p, 4) for p in pictures]
    samples = sampled(folder / "s", ids, pictures, captions=captions, low=low)
    config = section("fidelity", "paired", "caption_colour")
    return measure(config, run, samples, scenes, real, none, folder / "m.json")


def test_samples_equal_to_the_reference_are_at_distance_zero(perfect):
    figures = perfect["figures"]
    assert figures["fd_random_conv"] == pytest.approx(0, abs=1e-3)
    assert figures["precision_random_conv"] == figures["recall_random_conv"] == 1
    assert (figures["psnr"], figures["ssim"], figures["lpips_random_trunk"]) == (100, 1, 0)
    assert figures["bicubic_psnr"] < 40
    assert figures["bicubic_lpips_random_trunk"] > 0.01
    assert figures["caption_colour"] == 1


def test_without_weights_no_figure_has_a_published_name(perfect):
    assert not {"fid", "is", "kid", "precision", "recall", "lpips"} & perfect["figures"].keys()
    about = perfect["about"]
    assert (about["features"], about["perceptual"]) == ("random_conv", "lpips_random_trunk")


def test_about_says_how_it_was_measured(perfect):
    about = perfect["about"]
    assert about["floor"]["of"] == "two halves of the pictures, every other one"
    assert about["floor"]["frechet_distance"] == perfect["figures"]["fd_random_conv_floor"]
    assert about["floor"]["kernel_distance"] == perfect["figures"]["kid_random_conv_floor"]
    assert about["kid"] == {"samples": 24, "reference": 24, "subset": 24, "subsets": 1}
    assert about["precision_recall"] == {"samples": 24, "reference": 24, "neighbours": 3}
    assert about["sampling"]["sampler"]["num_steps"] == 20
    assert about["caption_colour"] == {"right": 24, "of": 24, "originals_right": 24, "originals": 24}
    assert "24 pictures for 102 feature dimensions" in about["note"]


def test_how_samples_are_split_into_files_changes_nothing(run, sampled, scenes, none, real, originals, tmp_path):
    ids, pictures, captions = originals
    outs = []
    for shard in (7, 1000):
        samples = sampled(tmp_path / f"s{shard}", ids, pictures, captions=captions)
        whole = pq.read_table(samples / "samples-00000.parquet")
        for number, start in enumerate(range(0, len(whole), shard)):
            pq.write_table(whole.slice(start, shard), samples / f"samples-{number:05d}.parquet")
        write_manifest(samples)
        config = section("fidelity", "caption_colour")
        result = measure(config, run, samples, scenes, real, none, tmp_path / f"m{shard}.json")
        del result["about"]["samples"]  # the identity of the folder, which does differ
        outs.append(result)
    assert outs[0] == outs[1]


@pytest.mark.parametrize(
    ("figures", "given", "message"),
    [
        (["paired"], {"channels": "none"}, "need samples made from a picture"),
        (["caption_colour"], {}, "has no caption"),
        (["paired"], {"ids": "other"}, "there is no such picture in the split"),
        (["paired"], {"random_views": True}, "mirrored or cropped, which are not the originals"),
        (["fidelity"], {"split": "test", "count": 3}, "figures need at least 8"),
        (["paired"], {"split": "held_out"}, "no split 'held_out'"),
    ],
)
def test_samples_that_a_figure_cannot_use_are_refused_in_one_line(
    run, sampled, scenes, none, real, originals, tmp_path, figures, given, message
):
    ids, pictures, _ = originals
    count = given.get("count", len(ids))
    ids = [given.get("ids", id) for id in ids][:count]
    samples = sampled(
        tmp_path / "s", ids, pictures[:count], split=given.get("split", "test"), channels=given.get("channels", "mask")
    )
    if "random_views" in given:
        write_json(samples / "sampling.json", read_json(samples / "sampling.json") | given)
        write_manifest(samples)
    with pytest.raises(ValueError, match=message) as caught:
        measure(section(*figures), run, samples, scenes, real, none, tmp_path / "m.json")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m.json").exists()


def test_samples_that_are_no_longer_those_listed_are_refused(run, sampled, scenes, none, real, originals, tmp_path):
    """Though they can be read."""
    ids, pictures, _ = originals
    samples, others = (sampled(tmp_path / name, ids, list(of)) for name, of in (("s", pictures), ("o", pictures[::-1])))
    shutil.copyfile(others / "samples-00000.parquet", samples / "samples-00000.parquet")
    with pytest.raises(ValueError, match=r"samples-00000\.parquet: damaged"):
        measure(section("fidelity"), run, samples, scenes, real, none, tmp_path / "m.json")


def test_a_reference_of_other_features_is_refused(run, sampled, scenes, none, real, originals, tmp_path):
    other = tmp_path / "reference"
    other.mkdir()
    about = json.loads((real / "reference.json").read_text()) | {"features": "squeezenet", "features_sha256": "00"}
    write_json(other / "reference.json", about)
    write_manifest(other)
    samples = sampled(tmp_path / "s", originals[0], originals[1])
    with pytest.raises(ValueError, match="measured with squeezenet 00, not with random_conv"):
        measure(section("fidelity"), run, samples, scenes, other, none, tmp_path / "m.json")


@pytest.mark.parametrize(
    ("reference_of", "samples_of", "message"),
    [
        ({"images": "other"}, {}, "not measured on .*scenes; name a reference of the same dataset"),
        ({"split": "validation"}, {}, "measured on the split validation; name a reference of test or train"),
        ({"size": 12}, {}, "measured at 12 x 12 pixels, these pictures have 24 x 24; .* or with a crop to it"),
        ({"split": "train"}, {}, None),
        ({"split": "validation"}, {"channels": "none"}, None),
    ],
)
def test_a_reference_of_unlike_pictures_is_refused(
    run, sampled, scenes, none, real, originals, tmp_path, reference_of, samples_of, message
):
    other = shutil.copytree(real, tmp_path / "reference")
    write_json(other / "reference.json", read_json(real / "reference.json") | reference_of)
    write_manifest(other)
    samples = sampled(tmp_path / "s", originals[0], originals[1], **samples_of)
    if message is None:
        measure(section("fidelity"), run, samples, scenes, other, none, tmp_path / "m.json")
        return
    with pytest.raises(ValueError, match=message) as caught:
        measure(section("fidelity"), run, samples, scenes, other, none, tmp_path / "m.json")
    assert "\n" not in str(caught.value)


def test_the_identity_autoencoder_is_perfect(run, scenes, none, real, tmp_path):
    folder = tmp_path / "pixels"
    folder.mkdir()
    identity = {"kind": "identity", "dataset": "scenes", "perceptual": "none", "init_from": "none"}
    write_json(folder / "config.json", identity)
    write_manifest(folder)
    names = dict.fromkeys(("autoencoder", "dataset", "reference", "features", "perceptual"), "x")
    config = AutoencoderEvaluation(**names, split="test", count=100, batch=16)
    out = tmp_path / "m.json"
    list(evaluate_autoencoder(config, run, scenes, folder, real, none, none, out))
    result = json.loads(out.read_text())
    figures = result["figures"]
    assert (figures["psnr"], figures["ssim"], figures["lpips_random_trunk"]) == (100, 1, 0)
    assert figures["rfd_random_conv"] == pytest.approx(0, abs=1e-3)
    assert result["about"]["count"] == 24
    images = Images(scenes, "test")
    pixels = torch.stack([images.pixels(i) for i in range(24)]).double() / 127.5 - 1
    channel = pixels[:, 1].flatten()
    deviation = channel - channel.mean()
    assert figures["latent_mean_1"] == pytest.approx(channel.mean().item(), rel=1e-4)
    assert figures["latent_std_1"] == pytest.approx(channel.std().item(), rel=1e-4)
    assert figures["latent_kurtosis_1"] == pytest.approx(
        (deviation**4).mean().item() / (deviation**2).mean().item() ** 2, rel=1e-4
    )
    assert figures["latent_noise_1"] == 0


def test_copied_samples_are_said_to_be(run, sampled, scenes, none, real, originals, tmp_path):
    train = Images(scenes, "train")
    copies = [train.pixels(i) for i in range(24)]
    samples = sampled(tmp_path / "s", originals[0], copies, channels="none")
    result = measure(section("neighbours"), run, samples, scenes, real, none, tmp_path / "m.json")
    assert result["figures"] == {"memorised": 1}
    assert result["intervals"]["memorised"] == [pytest.approx(0.862, abs=1e-3), 1]
    assert [n["train_id"] for n in result["about"]["neighbours"]] == train.ids
    assert [n["id"] for n in result["about"]["neighbours"]] == originals[0]


def test_clip_score_without_weights_is_refused(run, sampled, scenes, none, real, originals, tmp_path):
    samples = sampled(tmp_path / "s", originals[0], originals[1], captions=originals[2])
    with pytest.raises(ValueError, match="clip_score needs weights of kind clip"):
        measure(section("clip_score"), run, samples, scenes, real, none, tmp_path / "m.json")


def test_numbers_are_short_enough_to_read(run, sampled, scenes, none, real, originals, tmp_path):
    samples = sampled(tmp_path / "s", originals[0], originals[1][::-1])
    measure(section("fidelity"), run, samples, scenes, real, none, tmp_path / "m.json")
    numbers = re.findall(r'": (-?[\d.e+-]+)', (tmp_path / "m.json").read_text())
    assert all(len(re.sub(r"e.*|\D", "", number).strip("0")) <= 6 for number in numbers)
