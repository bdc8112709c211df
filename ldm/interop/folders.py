"""Model folders for weights that were trained elsewhere: what stages read of them is as if trained here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertTokenizer

from ldm.autoencoder.config import KL, VQ
from ldm.config import load
from ldm.data.tokens import save_tokenizer
from ldm.diffusion.config import Diffusion
from ldm.diffusion.model import LatentScale
from ldm.files import MANIFEST, fresh_folder, identity, whole, write_json, write_manifest
from ldm.nn.weights import read_tensors


def write_autoencoder(folder: Path, config: KL | VQ, state: Mapping[str, Tensor], source: Mapping[str, Any]) -> str:
    """Write models/autoencoders/NAME and return its identity; a folder that holds these very weights stays as it is."""
    if (folder / MANIFEST).is_file():
        if not _holds(folder, state):
            raise ValueError(
                f"{folder}: holds other weights than {source['file']}; move it away, "
                "or give the row another autoencoder's name"
            )
        return identity(folder)
    fresh_folder(folder)
    save(state, folder / "model.safetensors")
    write_json(folder / "config.json", config.model_dump())
    write_json(folder / "imported.json", source)
    write_manifest(folder)
    return identity(folder)


def write_diffusion(
    folder: Path,
    config: Diffusion,
    info: Mapping[str, Any],
    raw: Mapping[str, Tensor],
    averaged: Mapping[str, Tensor],
    source: Mapping[str, Any],
    tokenizer: BertTokenizer | None,
) -> None:
    """Write models/diffusion/NAME; never over a model that is there."""
    free(folder)
    fresh_folder(folder)
    save(raw, folder / "model.safetensors")
    save(averaged, folder / "ema.safetensors")
    write_json(
        folder / "config.json",
        {
            "diffusion": without_snapshots(config).model_dump(),
            "latents": dict(info),
            "latents_identity": None,
            "imported": dict(source),
            "parameters": {
                name: sum(tensor.numel() for tensor in part(raw, name).values()) for name in ("unet", "conditioner")
            },
        },
    )
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder / "tokenizer")
    write_manifest(folder)


def wrote(folder: Path) -> list[str]:
    """Notes on a folder that an import wrote: where it is, and whether `dvc repro` would train it anew, and lose it."""
    notes, file = [f"wrote {folder}"], folder.parent.parent.parent / "params.yaml"
    table = folder.parent.name
    if file.is_file() and folder.name in (load(file).get(table) or {}):
        notes.append(
            f"{folder}: {file} has the row {table}.{folder.name}: dvc repro would train it and write over this folder; "
            "move it to a name that is no row there, and name that in rows of latents and samples (docs/interop.md)"
        )
    return notes


def free(folder: Path) -> None:
    """Refuse the place of a model that is there."""
    if (folder / MANIFEST).is_file():
        raise ValueError(f"{folder}: there is a model already; move it away, or import under another name (--name)")


def without_snapshots(config: Diffusion) -> Diffusion:
    """Weights from elsewhere are of one moment of a training."""
    return config.model_copy(update={"train": config.train.model_copy(update={"snapshots": []})})


def whole_model(scale: LatentScale, unet: Mapping[str, Tensor], conditioner: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a DiffusionModel from those of its parts."""
    parts = {"scale": scale.state_dict(), "unet": unet, "conditioner": conditioner}
    return {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}


def part(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The state dict of one part of a DiffusionModel."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def save(state: Mapping[str, Tensor], path: Path) -> None:
    with whole(path) as beside:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, beside)


def _holds(folder: Path, state: Mapping[str, Tensor]) -> bool:
    found = read_tensors(folder / "model.safetensors")
    return set(found) == set(state) and all(torch.equal(found[name], state[name]) for name in state)
