"""Samples against their originals: other methods beside a model, fills by LaMa's area bins, what cannot be measured."""

import shutil

import numpy as np
import pytest
import torch

from ldm.data.batches import mixed
from ldm.data.masks import STYLES, draw_mask
from ldm.data.pictures import low_resolution, psnr
from ldm.data.shards import Images
from ldm.evaluation.config import Reference, SampleEvaluation
from ldm.evaluation.features import extractor
from ldm.evaluation.figure import Means
from ldm.evaluation.paired import FEWEST, Holes, area_bins, psnr_within
from ldm.evaluation.reconstruction import enlarge
from ldm.evaluation.reference import reference
from ldm.evaluation.samples import evaluate
from ldm.evaluation.statistics import RealStatistics, Statistics, frechet
from ldm.files import read_json, write_json, write_manifest

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def real(run, scenes, none, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "scenes-test"
    list(reference(Reference(dataset="scenes", split="test", features="none", batch=16), run, scenes, none, out))
    return out


@pytest.fixture(scope="module")
def originals(scenes):
    images = Images(scenes, "test")
    return images.ids, torch.stack([images.pixels(i) for i in range(len(images))])


@pytest.fixture
def measure(run, scenes, real, none, tmp_path):
    def measured(samples, *figures, batch=16):
        names = dict.fromkeys(("samples", "dataset", "reference", "features", "perceptual", "clip"), "x")
        config = SampleEvaluation(**names, figures=list(figures), batch=batch)
        out = tmp_path / f"{samples.name}.json"
        list(evaluate(config, run, samples, scenes, real, none, none, none, out))
        return read_json(out)

    return measured


@pytest.fixture(scope="module")
def masks():
    """24 pixels a side, from thin to thick: holes of many sizes."""
    keys = (torch.Generator().manual_seed(i) for i in range(24))
    return torch.stack([draw_mask(24, STYLES["training"], key) for key in keys])


def filled(pictures, masks):
    """The originals with noise in the holes."""
    noise = torch.randint(0, 256, pictures.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return torch.where(masks[:, None] > 0, noise, pictures)


def test_another_method_is_measured_as_a_model_is(measure, sampled, originals, tmp_path):
    ids, pictures = originals
    low = [low_resolution(p, 4) for p in pictures]
    bicubic = [enlarge(small, like=p) for small, p in zip(low, pictures, strict=True)]
    about = {"method": "bicubic", "count": 24, "condition": {"tokens": "none", "channels": "low_resolution"}}
    result = measure(sampled(tmp_path / "bicubic", ids, bicubic, low=low, **about), "fidelity", "paired")
    for key in ("psnr", "ssim", "lpips_random_trunk"):
        assert result["figures"][key] == result["figures"][f"bicubic_{key}"]
        low_end, high_end = result["intervals"][key]
        assert low_end < result["figures"][key] < high_end
    assert result["about"]["sampling"]["method"] == "bicubic"
    assert result["about"]["paired"] == {"originals": 24}

    made_elsewhere = sampled(tmp_path / "folder", ids, pictures, method="folder", channels="low_resolution")
    assert measure(made_elsewhere, "paired")["figures"]["psnr"] == 100


def test_fills_are_measured_whole_in_the_hole_and_by_area(measure, sampled, originals, masks, tmp_path):
    ids, pictures = originals
    result = measure(sampled(tmp_path / "s", ids, filled(pictures, masks), masks=masks, channels="mask"), "paired")
    figures, bins = result["figures"], result["about"]["area_bins"]
    error = (filled(pictures, masks).double() - pictures.double()).square().sum((1, 2, 3)) / (3 * masks.sum((1, 2)))
    assert figures["psnr_hole"] == pytest.approx((10 * torch.log10(255**2 / error)).mean().item(), rel=1e-5)
    assert figures["psnr_hole"] < figures["psnr"]
    low, high = result["intervals"]["fd_random_conv_originals"]
    assert low < figures["fd_random_conv_originals"] < high
    counts = {"floor": {"count": 12, "against": 12}, "train": {"count": 24, "against": 24}}
    assert result["about"]["beside"] == {"fd_random_conv_originals": counts}
    assert {f"fd_random_conv_originals_{name}" for name in counts} <= figures.keys()
    assert sum(part["count"] for part in bins) == 24
    for key in ("psnr", "ssim", "lpips_random_trunk", "psnr_hole"):
        together = sum(part["count"] * part["figures"][key] for part in bins) / 24
        assert together == pytest.approx(figures[key], rel=1e-4)
    shares = masks.double().mean((1, 2))
    for part in bins:
        assert part["count"] == int(((shares >= part["low"]) & (shares < part["high"])).sum())
        assert not any(key.startswith("fd") for key in part["figures"])  # too few pictures


def test_bins_with_enough_pictures_have_distances(real, none, originals):
    ids, pictures = originals
    several = FEWEST // 24 + 1
    holes = Holes(real, extractor(none, CPU), CPU)
    mask = torch.zeros(24, 24, 24, dtype=torch.bool)
    mask[:, :, :11] = True  # 46 %
    made = filled(pictures, mask)
    for _ in range(several):
        holes.add(ids, {"psnr": psnr(made, pictures)}, holes.measure(mask, made, pictures))
    (part,) = holes.about()["area_bins"]
    assert (part["low"], part["high"], part["count"]) == (0.4, 0.5, 24 * several)
    figures, distances = part["figures"], ("fd_random_conv", "fd_random_conv_originals")
    beside = {f"{key}_{name}" for key in distances for name in ("floor", "train")}
    assert figures.keys() == {"psnr", *distances, *beside}
    assert part["intervals"].keys() == {"psnr", *distances}
    assert part["intervals"]["fd_random_conv_originals"] == pytest.approx(
        holes.intervals()["fd_random_conv_originals"], rel=1e-5
    )
    assert part["figures"]["fd_random_conv_originals"] == pytest.approx(
        holes.figures()["fd_random_conv_originals"], rel=1e-5
    )


def test_beside_distances_stand_real_pictures_at_the_same_counts(real, none, scenes):
    """Of 12 pictures, so that the reference of 24 has as many others; in another order, for they are drawn anew."""
    extract = extractor(none, CPU)
    statistics = RealStatistics.load(real, extract)
    order = mixed(24, 24)
    features = {split: extract(Images(scenes, split).batch(order))[0] for split in ("test", "train")}

    def gaussian(split, part):
        found = Statistics()
        found.add(features[split][part])
        return found.gaussian().over(statistics.scale)

    few, rest, every = slice(0, 12), slice(12, 24), slice(None)
    beside = statistics.beside_at(12, 12)
    assert {name: (found.count, found.against) for name, found in beside.items()} == {
        "floor": (12, 12),
        "train": (12, 12),
    }
    assert beside["floor"].distance == pytest.approx(frechet(gaussian("test", few), gaussian("test", rest)), rel=1e-6)
    assert beside["train"].distance == pytest.approx(frechet(gaussian("train", few), gaussian("test", few)), rel=1e-6)
    against_all = statistics.beside_at(20, 24)  # more than half of the reference: half of it, and the other half
    assert (against_all["floor"].count, against_all["floor"].against) == (12, 12)
    assert (against_all["train"].count, against_all["train"].against) == (20, 24)
    expected = frechet(gaussian("train", slice(0, 20)), gaussian("test", every))
    assert against_all["train"].distance == pytest.approx(expected, rel=1e-6)


def test_a_reference_without_training_pictures_has_a_floor_alone(run, scenes, none, tmp_path):
    alone = shutil.copytree(scenes, tmp_path / "alone")
    write_json(alone / "dataset.json", read_json(scenes / "dataset.json") | {"splits": {"test": 24}})
    write_manifest(alone)
    section = Reference(dataset="scenes", split="test", features="none", batch=16)
    list(reference(section, run, alone, none, tmp_path / "real"))
    assert RealStatistics.load(tmp_path / "real", extractor(none, CPU)).beside_at(12, 24).keys() == {"floor"}


def test_originals_filled_back_are_at_no_distance(measure, sampled, originals, masks, tmp_path):
    ids, pictures = originals
    figures = measure(sampled(tmp_path / "s", ids, pictures, masks=masks, channels="mask"), "paired")["figures"]
    assert figures["fd_random_conv_originals"] == pytest.approx(0, abs=1e-6)
    assert figures["psnr_hole"] == 100


def test_a_model_without_a_mask_that_keeps_what_is_known_fills_too(measure, sampled, originals, masks, tmp_path):
    ids, pictures = originals
    samples = sampled(tmp_path / "s", ids, pictures, masks=masks, channels="none", keep_known=True)
    assert measure(samples, "paired")["figures"]["psnr_hole"] == 100


def test_areas_fall_into_lamas_bins():
    shares = [1, 9, 10, 11, 50, 99, 100]
    masks = torch.zeros(len(shares), 10, 10, dtype=torch.bool)
    for mask, share in zip(masks, shares, strict=True):
        mask.view(-1)[:share] = True
    expected = np.searchsorted(np.linspace(0, 1, 11), np.array(shares) / 100, side="right") - 1
    expected[expected == 10] = 9  # LaMa's corner case
    assert area_bins(masks).tolist() == expected.tolist()


def test_psnr_within_everything_is_psnr(originals):
    _, pictures = originals
    everything = torch.ones(24, 24, 24, dtype=torch.bool)
    torch.testing.assert_close(psnr_within(pictures, pictures.flip(0), everything), psnr(pictures, pictures.flip(0)))


@pytest.mark.parametrize(
    ("given", "figures", "message"),
    [
        ({"channels": "mask"}, ["paired"], "has no mask, though a hole was filled"),
        ({"channels": "mask", "masks": (16, 1)}, ["paired"], "its mask hides 256 of 16 x 16 pixels, the sample has 24"),
        ({"channels": "mask", "masks": (24, 0)}, ["paired"], "its mask hides 0 of 24 x 24 pixels"),
        ({"split": "train", "channels": "mask"}, ["neighbours"], "made from training pictures, which they resemble"),
        ({"uneven": True}, ["fidelity"], "12 x 12 pixels, others 24 x 24; bring them to one size"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(measure, sampled, originals, tmp_path, given, figures, message):
    ids, pictures = originals
    pictures = list(pictures)
    if given.pop("uneven", False):
        pictures[3] = pictures[3][:, :12, :12]
    if "masks" in given:
        side, value = given["masks"]
        given["masks"] = torch.full((24, side, side), value, dtype=torch.uint8)
    with pytest.raises(ValueError, match=message) as caught:
        measure(sampled(tmp_path / "s", ids, pictures, **given), *figures)
    assert "\n" not in str(caught.value)


def test_batches_change_no_mean(measure, sampled, originals, masks, tmp_path):
    ids, pictures = originals
    samples = sampled(tmp_path / "s", ids, filled(pictures, masks), masks=masks, channels="mask")
    first, second = (measure(samples, "paired", batch=batch)["figures"] for batch in (16, 24))
    assert first == pytest.approx(second, rel=1e-5)


def test_samples_of_one_original_count_as_one_observation():
    means = Means()
    for _ in range(4):
        means.add(["a", "b", "c"], {"psnr": torch.tensor([20.0, 22.0, 27.0])})
    once = Means()
    once.add(["a", "b", "c"], {"psnr": torch.tensor([20.0, 22.0, 27.0])})
    assert means.figures() == once.figures() == {"psnr": 23}
    assert means.intervals() == once.intervals()
