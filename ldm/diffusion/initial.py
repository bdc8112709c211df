"""Starting from another model: what fits, what starts anew, and what a person should know of it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldm import conditioning
from ldm.conditioning import Conditions
from ldm.config import check
from ldm.diffusion.config import Diffusion
from ldm.diffusion.model import DiffusionModel, load
from ldm.files import read_json

NAMES = {"label": "classes", "layout": "box_classes", "label_map": "label_map_classes"}
"""By kind of condition, the names in latents.json that its numbers stand for."""


def start_from(
    model: DiffusionModel, config: Diffusion, info: dict[str, Any], latents: Path, initial: Path
) -> list[str]:
    """Give `model` the averaged weights and the latent scale of the model in `initial`; return notes, a line each.

    Sizes of latents may differ. Conditioner tensors whose shape follows from the data (classes, vocabulary, lengths)
    stay as they are where the data differ. Raises ValueError for another architecture, with the first difference.
    """
    other, about = load(initial)
    theirs = check(about["diffusion"], Diffusion, "diffusion", file=str(initial / "config.json"))
    ours, given = model.state_dict(), other.state_dict()
    fresh = _of_other_data(model.conditioner, other.conditioner, theirs.condition, info)
    for name in sorted({*ours, *given}, key=[*ours, *given].index):
        here, there = _shape(ours, name), _shape(given, name)
        if here != there and name not in fresh:
            raise ValueError(_refused(initial, name, here, there))
    if found := _differing(config, theirs):
        raise ValueError(_refused(initial, *found))
    model.load_state_dict({name: ours[name] if name in fresh else given[name] for name in ours})

    notes = [f"init_from: the latent scale is that of {initial}, which its UNet was trained on; scale is not used"]
    if about["latents"]["autoencoder"] != info["autoencoder"]:
        notes.append(f"init_from: {initial} was trained on latents of another autoencoder")
    for key in ("objective", "schedule"):
        if getattr(config, key) != getattr(theirs, key):
            notes.append(f"init_from: {initial} was trained with another {key}")
    if fresh:
        notes.append(f"init_from: the data of {initial} had others, so these start anew: {', '.join(fresh)}")
    if renamed := _renamed(config.condition, info, about["latents"], latents, initial):
        notes.append(f"init_from: {initial} was trained with other {renamed}; what is taken over goes by number")
    return notes


def _of_other_data(ours: nn.Module, given: nn.Module, condition: Conditions, info: dict[str, Any]) -> list[str]:
    """Tensors that the other conditioner would have in our shape, had it been made for our data."""
    here, there = ours.state_dict(), given.state_dict()
    if here.keys() != there.keys():
        return []
    with torch.device("meta"):
        there_for_us = conditioning.build(condition, info).state_dict()
    return [f"conditioner.{name}" for name in here if there[name].shape != here[name].shape == there_for_us[name].shape]


def _differing(config: Diffusion, theirs: Diffusion) -> tuple[str, Any, Any] | None:
    """What changes the function although every tensor fits: its name, ours and theirs."""
    for level, width in enumerate(map(int, config.unet.widths)):
        if 2**level not in config.unet.attention_factors and 2**level != config.unet.factor:
            continue
        heads = config.unet.heads_of(width), theirs.unet.heads_of(width)
        if heads[0] != heads[1]:
            return f"unet.heads of width {width}", *heads
    for part in ("tokens", "channels"):
        here, there = (getattr(c.condition, part).model_dump(exclude={"drop", "dropout"}) for c in (config, theirs))
        for key in here:
            if here[key] != there.get(key):
                return f"condition.{part}.{key}", here[key], there.get(key)
    return None


def _renamed(
    condition: Conditions, info: dict[str, Any], theirs: dict[str, Any], latents: Path, initial: Path
) -> str | None:
    """What the numbers of the condition stood for there, where it was something else."""
    kinds = {getattr(part, "kind", None) for part in (condition.tokens, condition.channels)}
    for kind, key in NAMES.items():
        if kind in kinds and info[key] != theirs[key]:
            return key.replace("_", " ")
    if "text" in kinds and _words(latents) != _words(initial):
        return "words in its vocabulary (latents: vocabulary gives both the same)"
    return None


def _words(folder: Path) -> dict[str, int]:
    """A word's number; nothing for a model that was imported without its vocabulary."""
    path = folder / "tokenizer/tokenizer.json"
    return read_json(path)["model"]["vocab"] if path.is_file() else {}


def _shape(state: dict[str, Tensor], name: str) -> list[int] | None:
    return list(state[name].shape) if name in state else None


def _refused(initial: Path, name: str, here: Any, there: Any) -> str:
    return (
        f"init_from: {initial} is of another architecture: {name} is {there or 'absent'} there"
        f" and {here or 'absent'} here; make this row's unet and condition the same, or say init_from: none"
    )
