"""The sweeps over first stages compare just these: models of about one size, trained and sampled alike."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from ldm.config import load, section
from ldm.diffusion.config import Diffusion
from ldm.diffusion.model import DiffusionModel
from ldm.interop.described import described

PRESETS = Path(__file__).resolve().parents[1] / "presets"
OVER_F = {"sweep-cifar10": [1, 2, 4, 8], "sweep-photos": [1, 2, 4, 8, 16, 32]}
STEPS = [10, 20, 50, 100, 200]
"""Of DDIM, figure 7."""
LARGEST = {"sweep-cifar10": 1.07, "sweep-photos": 1.16, "sweep-inpainting": 1.03}
"""Times the smallest model. Latents differ in sides and channels, so levels and widths do; the paper's own sweep on
CelebA-HQ has 258 to 274 million parameters, 1.06."""


def parameters(params: dict[str, Any], name: str, file: str) -> int:
    classes = [str(label) for label in range(10)]
    with torch.device("meta"):
        model = DiffusionModel(
            section(params, Diffusion, f"diffusion.{name}", file=file),
            described(params, name, file=file, classes=classes),
        )
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture(params=LARGEST)
def sweep(request) -> tuple[str, dict[str, Any]]:
    return request.param, load(PRESETS / f"{request.param}.yaml")


def test_models_have_equally_many_parameters(sweep):
    name, params = sweep
    counts = [parameters(params, model, f"{name}.yaml") for model in params["diffusion"]]
    assert max(counts) / min(counts) <= LARGEST[name]


def test_models_differ_in_their_latents_and_unet_alone(sweep):
    """The same steps, batch, rate, seed, objective, schedule and condition."""
    _, params = sweep
    own = {"latents", "autoencoder", "unet"}
    rest = [{key: value for key, value in row.items() if key not in own} for row in params["diffusion"].values()]
    assert len(rest) > 1
    assert all(row == rest[0] for row in rest)
    assert len({row["autoencoder"] for row in params["diffusion"].values()}) == len(rest)


def test_first_stages_are_trained_alike(sweep):
    _, params = sweep
    trained = [row for row in params["autoencoders"].values() if row["kind"] != "identity"]
    assert all(row["train"] == trained[0]["train"] and row["dataset"] == trained[0]["dataset"] for row in trained)


@pytest.mark.parametrize("name", OVER_F)
def test_every_factor_is_sampled_by_ddim_at_the_five_numbers_of_steps_and_measured(name):
    params = load(PRESETS / f"{name}.yaml")
    factors = {model: 2 ** (len(_levels(params, row)) - 1) for model, row in params["diffusion"].items()}
    assert sorted(factors.values()) == OVER_F[name]
    at_the_end = {
        samples: row
        for samples, row in params["samples"].items()
        if "snapshot" not in row and row["sampler"]["kind"] == "ddim" and row["guidance"] == 1
    }
    for model in factors:
        rows = {samples: row for samples, row in at_the_end.items() if row["model"] == model}
        assert Counter(row["sampler"]["num_steps"] for row in rows.values()) == Counter(STEPS)
        assert {row["sampler"]["eta"] for row in rows.values()} == {0.0}
    alike = ("split", "count", "seed", "batch")
    assert len({tuple(row[key] for key in alike) for row in at_the_end.values()}) == 1
    measured = {row["samples"]: row for row in params["evaluation"]["samples"].values()}
    assert at_the_end.keys() <= measured.keys()
    assert len({(measured[samples]["reference"], measured[samples]["features"]) for samples in at_the_end}) == 1


def _levels(params: dict[str, Any], row: dict[str, Any]) -> list[float]:
    """Of the first stage; pixels have one."""
    return params["autoencoders"][row["autoencoder"]].get("model", {"channel_mult": [1]})["channel_mult"]
