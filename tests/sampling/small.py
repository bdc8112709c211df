"""Small models with random weights, and pictures with every condition."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from ldm.config import Run
from ldm.data.pictures import low_resolution, to_float

SIDE, FACTOR, ROWS = 32, 4, 6
NONE = {"kind": "none"}
TEXT = {"kind": "text", "drop": 0.1, "width": 16, "layers": 1, "heads": 2, "head_width": 8, "dropout": 0.0}
RUN = Run(mode="exact", device="cpu", threads=1, instructions="native")

AUTOENCODER = {
    "kind": "kl",
    "dataset": "drawn",
    "perceptual": "none",
    "init_from": "none",
    "model": {
        "channels": 8, "channel_mult": [1, 1, 2], "num_res_blocks": 1, "attention_factors": [],
        "mid_attention": False, "latent_channels": 3,
    },
    "loss": {
        "kl_weight": 1e-6, "perceptual_weight": 0.0, "l2_weight": 1.0, "adversarial_weight": 0.0,
        "adversarial_start": 1, "discriminator_channels": 8, "discriminator_layers": 1,
    },
    "train": {
        "steps": 2, "batch": 2, "lr": 1e-3, "warmup": 0, "betas": [0.5, 0.9], "ema": 0.9, "seed": 0, "flip": False,
        "save_every": 1, "picture_every": 1,
    },
}  # fmt: skip


def diffusion_section(tokens=NONE, channels=NONE, **changes):
    return {
        "latents": "drawn",
        "autoencoder": "kl",
        "init_from": "none",
        "condition": {"tokens": tokens, "channels": channels},
        "unet": {
            "channels": 16, "channel_mult": [1, 2], "num_res_blocks": 1, "attention_factors": [2], "heads": 2,
            "transformer_depth": 1, "dropout": 0.0,
        },
        "objective": "v",
        "schedule": {"kind": "linear", "steps": 100, "beta_start": 0.0015, "beta_end": 0.195},
        "scale": "channel",
        "train": {
            "steps": 2, "batch": 2, "lr": 1e-3, "warmup": 0, "loss": "l2", "ema": 0.9, "seed": 0, "save_every": 1,
            "picture_every": 1,
        },
    } | changes  # fmt: skip


def stirred(module, seed):
    """`module` with random weights everywhere, also where training would start from zero; frozen."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = noise * 0.3 / max(1, parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else parameter.data
    return module.eval().requires_grad_(False)


def pictures(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)


def columns(first_stage):
    """Every condition of ROWS pictures, as a latents folder has them."""
    images = pictures(ROWS)
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(ROWS, SIDE, SIDE, dtype=torch.uint8)
    for i in range(ROWS):
        mask[i, 4 + i : 20, 8:24] = 1
    image = to_float(images)
    with torch.no_grad():
        hidden = first_stage.encode(torch.where(mask[:, None] > 0, -1.0, image)).mean
        moments = first_stage.encode(image)
        grey = first_stage.encode(image.mean(1, keepdim=True).expand_as(image)).mean
    return {
        "mean": moments.mean,
        "std": moments.std,
        "tokens": torch.randint(0, 20, (ROWS, 5), generator=generator, dtype=torch.int32),
        "low_resolution": torch.stack([low_resolution(p, 4) for p in images]),
        "label_map": torch.randint(0, 3, (ROWS, SIDE, SIDE), generator=generator, dtype=torch.uint8),
        "mask": mask,
        "masked": hidden,
        "grey": grey,
    }


def information(shapes, autoencoder="0" * 64):
    side = SIDE // FACTOR
    return {
        "kind": "kl", "autoencoder": autoencoder, "images": "1" * 64, "factor": FACTOR, "size": SIDE,
        "latent_shape": [3, side, side], "shapes": {name: list(shape) for name, shape in shapes.items()},
        "counts": {"test": ROWS}, "classes": None, "label_map_classes": ["sky", "road", "tree"], "box_classes": None,
        "channel_mean": [0.0, 0.1, -0.1], "channel_std": [1.0, 0.8, 1.2], "vocabulary_size": 20,
        "null_tokens": [0, 1, 2, 3, 4], "layout": None, "low_resolution": {"factor": 4, "degradation": "bicubic"},
        "mask": {"style": "training"}, "health": None,
    }  # fmt: skip


def save(module, path: Path):
    path.parent.mkdir()
    save_file(module.state_dict(), path)
