"""First stages at 1, 2 and 4 times their training size, KL beside VQ, whole and in tiles."""

import pytest
import torch
from safetensors.torch import save_file

import ldm.evaluation.autoencoder
from ldm.autoencoder.config import Autoencoder
from ldm.autoencoder.model import build, load
from ldm.autoencoder.tiled import decode_tiled, encode_tiled
from ldm.config import check
from ldm.data.pictures import encode, to_float, to_uint8
from ldm.data.shards import Example, Images, write_shards
from ldm.evaluation.autoencoder import _reconstruct, evaluate_autoencoder
from ldm.evaluation.config import AutoencoderEvaluation, Reference
from ldm.evaluation.reference import reference
from ldm.files import read_json, write_json, write_manifest

ARCHITECTURE = {
    "channels": 8,
    "channel_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "attention_factors": [],
    "mid_attention": False,
    "latent_channels": 3,
}
LOSS = dict.fromkeys(("perceptual_weight", "l2_weight", "adversarial_weight"), 0.0) | {
    "adversarial_start": 0,
    "discriminator_channels": 8,
    "discriminator_layers": 1,
}
TRAIN = {
    **{"steps": 1, "batch": 1, "lr": 1e-3, "warmup": 0, "betas": [0.9, 0.99], "ema": 0.9, "seed": 0},
    **{"flip": False, "save_every": 1, "picture_every": 1},
}


@pytest.fixture(scope="module", params=[32, 64, 128], ids=["1x", "2x", "4x"])
def images(request, tmp_path_factory):
    """Prepared pictures, smooth so that first stages see something of them."""
    size, folder = request.param, tmp_path_factory.mktemp("prepared") / f"smooth-{request.param}"
    folder.mkdir()
    coarse = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pictures = to_uint8(torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic") * 2 - 1)
    for split in ("train", "test"):
        write_shards(folder, split, (Example(id=f"{i:02d}", image=encode(p)) for i, p in enumerate(pictures)))
    write_json(folder / "dataset.json", {"size": size, "splits": {"train": 8, "test": 8}})
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def real(run, images, none, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / images.name
    list(reference(Reference(dataset=images.name, split="test", features="none", batch=4), run, images, none, out))
    return out


@pytest.fixture(scope="module", params=["kl", "vq"])
def first_stage(request, tmp_path_factory):
    """As `train_autoencoder` writes one of factor 4, trained on the pictures of 32 pixels; untrained."""
    architecture, loss = ARCHITECTURE, LOSS | {"kl_weight": 1e-6}
    if request.param == "vq":
        architecture, loss = ARCHITECTURE | {"codebook": {"size": 64}}, LOSS
    row = {"kind": request.param, "dataset": "smooth-32", "init_from": "none", "perceptual": "none"}
    section = check(row | {"model": architecture, "loss": loss, "train": TRAIN}, Autoencoder, "", file="x")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / request.param
    folder.mkdir()
    save_file(build(section.root).state_dict(), folder / "model.safetensors")
    write_json(folder / "config.json", section.model_dump() | {"size": 32})
    write_manifest(folder)
    return folder


@pytest.fixture
def measure(run, images, real, first_stage, none, tmp_path):
    def measured():
        names = dict.fromkeys(("autoencoder", "reference", "features", "perceptual"), "x")
        config = AutoencoderEvaluation(**names, dataset=images.name, split="test", count=8, batch=4)
        list(evaluate_autoencoder(config, run, images, first_stage, real, none, none, tmp_path / "m.json"))
        return read_json(tmp_path / "m.json")

    return measured


def test_a_first_stage_is_measured_at_any_size_and_says_both(measure, images, first_stage):
    result = measure()
    figures, size = result["figures"], read_json(images / "dataset.json")["size"]
    assert result["about"]["size"] == size
    assert result["about"]["training"] == {"dataset": "smooth-32", "size": 32}
    for key in ("psnr", "ssim", "lpips_random_trunk", "bicubic_psnr", "rfd_random_conv"):
        low, high = result["intervals"][key]
        assert low <= figures[key] <= high
    assert ("codebook_used" in figures) == (first_stage.name == "vq")
    assert "rfid" not in figures
    assert "ris" not in figures
    assert figures["bicubic_psnr"] > figures["psnr"]  # untrained

    model, pixels = load(first_stage), Images(images, "test").batch(torch.arange(8))
    with torch.no_grad():
        back = to_uint8(model.decode(model.encode(to_float(pixels)).mean)).double()
    error = (back - pixels.double()).square().mean((1, 2, 3))
    assert figures["psnr"] == pytest.approx((10 * torch.log10(255**2 / error)).mean().item(), rel=1e-3)


def test_large_pictures_go_through_in_tiles(images, first_stage, monkeypatch):
    model, pixels = load(first_stage), Images(images, "test").batch(torch.arange(2))
    whole, moments = _reconstruct(model, pixels, torch.device("cpu"))
    monkeypatch.setattr(ldm.evaluation.autoencoder, "TILE", 32)
    monkeypatch.setattr(ldm.evaluation.autoencoder, "OVERLAP", 16)
    tiled, in_tiles = _reconstruct(model, pixels, torch.device("cpu"))
    with torch.no_grad():  # in latent places of 4 pixels
        expected = encode_tiled(model, to_float(pixels), 8, 4).mean
        assert torch.equal(in_tiles.mean, expected)
        assert torch.equal(tiled, to_uint8(decode_tiled(model, expected, 8, 4)))
    small = pixels.shape[-1] == 32
    assert torch.equal(tiled, whole) == torch.equal(in_tiles.mean, moments.mean) == small
