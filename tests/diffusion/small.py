"""A small model on latents that are described, and a folder of them where a test reads some."""

from pathlib import Path
from typing import Any

import torch

from ldm.config import check
from ldm.data.latents import write_latents
from ldm.diffusion.config import Diffusion
from ldm.diffusion.folder import describe, save_weights
from ldm.diffusion.model import DiffusionModel, weights_name
from ldm.files import read_json, write_json, write_manifest

INFO: dict[str, Any] = {
    "autoencoder": "of these latents",
    "latent_shape": [3, 8, 8],
    "shapes": {"mean": [3, 8, 8], "std": [3, 8, 8], "tokens": [6]},
    "counts": {"train": 30, "validation": 20},
    "channel_mean": [1.0, -2.0, 0.0],
    "channel_std": [2.0, 0.5, 1.0],
    "classes": ["a", "b"],
    "vocabulary_size": 20,
    "null_tokens": [2, 3, 0, 0, 0, 0],
    "health": {"warnings": []},
}
ROW: dict[str, Any] = {
    "latents": "x",
    "autoencoder": "x",
    "init_from": "none",
    "condition": {"tokens": {"kind": "none"}, "channels": {"kind": "none"}},
    "unet": {
        "channels": 8,
        "channel_mult": [1, 2],
        "num_res_blocks": 1,
        "attention_factors": [2],
        "heads": 2,
        "transformer_depth": 1,
        "dropout": 0.0,
    },
    "objective": "v",
    "schedule": {"kind": "linear", "steps": 100, "beta_start": 0.0015, "beta_end": 0.0195},
    "scale": 1.0,
    "train": {
        "steps": 20,
        "batch": 8,
        "lr": 2.0e-3,
        "warmup": 0,
        "loss": "l2",
        "ema": 0.9,
        "seed": 4,
        "save_every": 6,
        "picture_every": 10,
    },
}
LABEL = {"tokens": {"kind": "label", "drop": 0.1, "width": 8}, "channels": {"kind": "none"}}
TEXT = {
    "tokens": {"kind": "text", "drop": 0.1, "width": 8, "layers": 1, "heads": 2, "dropout": 0.0},
    "channels": {"kind": "none"},
}


def row(**changes: Any) -> Diffusion:
    """A row of `diffusion` with these keys changed; `unet` and `train` are changed key by key."""
    values = ROW | changes | {part: ROW[part] | changes.get(part, {}) for part in ("unet", "train")}
    return check(values, Diffusion, "diffusion.x")


def made(info: dict[str, Any] = INFO, **changes: Any) -> DiffusionModel:
    torch.manual_seed(0)
    return DiffusionModel(row(**changes), info)


def write_random_latents(folder: Path, **changes: Any) -> dict[str, Any]:
    """Latents of random numbers in `folder`, described by INFO with these keys changed; returns the description."""
    info, draw = INFO | changes, torch.Generator().manual_seed(0)
    for split, count in info["counts"].items():
        with write_latents(folder, split, info["shapes"]) as append:
            columns = {
                "mean": torch.randn(count, *info["shapes"]["mean"], generator=draw),
                "std": torch.full((count, *info["shapes"]["std"]), 0.1),
                "tokens": torch.randint(20, (count, *info["shapes"]["tokens"]), generator=draw, dtype=torch.int32),
            }
            append([f"{i:03d}" for i in range(count)], [0] * count, [i % 2 for i in range(count)], columns)
    write_json(folder / "latents.json", info)
    write_manifest(folder)
    return info


def write_small_model(folder: Path, latents: Path, **changes: Any) -> DiffusionModel:
    """A model as a training leaves it, of random weights that are not those of `made`."""
    config = row(**changes)
    torch.manual_seed(1)
    model = DiffusionModel(config, read_json(latents / "latents.json"))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    for step in (None, *config.train.snapshots):
        save_weights(model, folder / weights_name(step))
    write_json(folder / "config.json", describe(config, model, latents, Path("none")))
    write_manifest(folder)
    return model
