"""The loop of KL and VQ alike: interrupted or not, from other weights, on crops, and what it says at the end."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ldm.autoencoder.augment import cropped, mirrored
from ldm.autoencoder.model import KLAutoencoder, VQAutoencoder, load
from ldm.autoencoder.train import train
from ldm.data.randomness import generator
from ldm.files import read_json
from ldm.progress import Progress
from tests.autoencoder.conftest import RUN

NONE = Path("none")
OPTIONS = {
    "kl": {"loss": {"gan": "vanilla"}},
    "kl, learned logvar, crops": {"loss": {"learn_logvar": True}, "train": {"crop": 8}},
    "vq": {},
    "vq, learned logvar, vanilla": {"loss": {"learn_logvar": True, "gan": "vanilla"}},
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_training_stopped_again_and_again_ends_in_the_same_bytes(name, row, pictures, tmp_path):
    config = row(name[:2], **OPTIONS[name])

    def stage(out: str, state: str) -> Iterator[Progress]:
        return train(config, RUN, pictures, NONE, NONE, tmp_path / out, tmp_path / state)

    whole = [progress.done for progress in stage("whole", "state")]
    assert whole == [1, 2, 3, 4, 5, 6, 6]
    for stop in (3, 1, 2):
        records = stage("stopped", "other")
        for _ in range(stop):
            next(records)
        records.close()
    list(stage("stopped", "other"))
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def trained(config, images: Path, out: Path, initial: Path = NONE) -> list[Progress]:
    return list(train(config, RUN, images, NONE, initial, out, out.with_name(out.name + "-state")))


@pytest.fixture(scope="module")
def coders(row, pictures, tmp_path_factory) -> dict[str, tuple[Path, list[Progress]]]:
    made = tmp_path_factory.mktemp("coders")
    return {kind: (made / kind, trained(row(kind), pictures, made / kind)) for kind in ("kl", "vq")}


def test_history_holds_what_each_kind_minimised_and_how_held_back_pictures_came_back(coders):
    common = {"step", "loss", "reconstruction", "discriminator", "adaptive_weight", "gradient_norm", "lr"}
    special = {"kl": {"kl"}, "vq": {"codebook", "codebook_used", "perplexity"}}
    for kind, (folder, _) in coders.items():
        rows = list(csv.DictReader((folder / "history.csv").open()))
        assert rows[0].keys() == common | special[kind] | {"val_psnr", "val_rec"}
        assert [row["step"] for row in rows if row["val_psnr"]] == ["3", "6"]


def test_a_training_that_spoils_its_pictures_says_so(row, pictures, tmp_path):
    """Its rate rises without end: at first it learns, then it forgets."""
    wild = {"steps": 60, "lr": 0.3, "warmup": 59, "save_every": 1, "picture_every": 60}
    records = trained(row("kl", loss={"adversarial_weight": 0.0}, train=wild), pictures, tmp_path / "wild")
    said = [note for record in records[:-1] for note in record.notes]
    assert all("% above its best so far; lower train.lr" in note for note in said)
    assert 1 <= len(said) < 5, "each time that it begins, not at every step"


def test_the_last_record_says_whether_more_steps_are_worth_it(coders):
    for _, records in coders.values():
        assert "in the last fifth of the steps" in records[-1].notes[0]


def test_what_was_trained_is_loaded_as_its_kind(coders):
    assert isinstance(load(coders["kl"][0]), KLAutoencoder)
    vq = load(coders["vq"][0])
    assert isinstance(vq, VQAutoencoder)
    assert not any(p.requires_grad for p in vq.parameters())


def test_its_folder_says_at_which_size_it_was_trained(coders, row, pictures, tmp_path):
    trained(row("vq", train={"steps": 2, "crop": 8}), pictures, tmp_path / "crops")
    sizes = {folder.name: read_json(folder / "config.json")["size"] for folder in (coders["vq"][0], tmp_path / "crops")}
    assert sizes == {"vq": 16, "crops": 8}


def test_training_starts_from_the_weights_it_was_given(coders, row, pictures, tmp_path):
    changes = {"train": {"lr": 1e-30, "ema": 0.0, "steps": 2}, "model": {"codebook": {"size": 32}}}
    trained(row("vq", **changes), pictures, tmp_path / "on", coders["vq"][0])
    before, after = load(coders["vq"][0]).state_dict(), load(tmp_path / "on").state_dict()
    assert all(torch.allclose(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("changes", "what"),
    [({"model": {"latent_channels": 4}}, "latent_channels"), ({"model": {"codebook": {"size": 16}}}, "codebook")],
)
def test_weights_of_another_architecture_are_refused_in_one_line(changes, what, coders, row, pictures, tmp_path):
    with pytest.raises(ValueError, match=f"init_from: .* trained with another {what};"):
        trained(row("vq", **changes), pictures, tmp_path / "on", coders["vq"][0])


def test_weights_of_another_kind_are_refused(coders, row, pictures, tmp_path):
    with pytest.raises(ValueError, match="trained with another kind"):
        trained(row("kl"), pictures, tmp_path / "on", coders["vq"][0])


@pytest.mark.parametrize(("crop", "message"), [(7, "not a multiple of factor 2"), (18, "18 pixels do not fit")])
def test_crops_that_cannot_be_had_are_refused(crop, message, row, pictures, tmp_path):
    with pytest.raises(ValueError, match=message):
        trained(row("kl", train={"crop": crop}), pictures, tmp_path / "out")


def test_a_loss_that_is_no_number_ends_the_training(row, pictures, tmp_path):
    with pytest.raises(ValueError, match=r"is not a finite number at step .*lower train.lr"):
        trained(row("vq", train={"lr": 1e30}), pictures, tmp_path / "out")


def test_a_crop_is_a_square_of_its_picture():
    pixels = torch.arange(5 * 3 * 9 * 7).view(5, 3, 9, 7).remainder(251).to(torch.uint8)
    parts = cropped(pixels, 4, torch.rand((5, 2), generator=generator("crop")))
    places = {(top, left) for top in range(6) for left in range(4)}
    for picture, part in zip(pixels, parts, strict=True):
        assert any(torch.equal(picture[:, top : top + 4, left : left + 4], part) for top, left in places)
    assert torch.equal(cropped(pixels[..., :7, :], 7, torch.rand(5, 2)), pixels[..., :7, :])


def test_a_picture_is_mirrored_or_left():
    image = torch.randn(32, 3, 4, 6)
    same = [
        torch.equal(a, b)
        for a, b in zip(mirrored(image, torch.rand(32, generator=generator("flip"))), image, strict=True)
    ]
    assert 4 < sum(same) < 28
