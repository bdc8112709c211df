"""What stands in the folder of a diffusion model beside its curves and pictures."""

import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from ldm.diffusion.config import Diffusion
from ldm.diffusion.model import DiffusionModel
from ldm.files import identity, read_json, whole


def save_weights(model: nn.Module, path: Path) -> None:
    with whole(path) as beside:
        save_file({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}, beside)


def copy_whole(source: Path, path: Path) -> None:
    with whole(path) as beside:
        shutil.copyfile(source, beside)


def describe(config: Diffusion, model: DiffusionModel, latents: Path, initial: Path) -> dict[str, Any]:
    """config.json: all that `load` needs, and by their hashes what the model was made from."""
    return {
        "diffusion": config.model_dump(),
        "latents": read_json(latents / "latents.json"),
        "latents_identity": identity(latents),
        "initial_identity": None if initial.name == "none" else identity(initial),
        "parameters": {
            "unet": sum(p.numel() for p in model.unet.parameters()),
            "conditioner": sum(p.numel() for p in model.conditioner.parameters()),
        },
    }
