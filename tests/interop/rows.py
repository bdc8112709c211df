"""Small rows of params, wide enough (128) that every norm has the 32 groups of released models."""

from pathlib import Path
from typing import Any

TRAIN = {"steps": 2, "batch": 1, "lr": 1e-4, "warmup": 0, "ema": 0.0, "seed": 0, "save_every": 1, "picture_every": 1}
LOSS = {
    "perceptual_weight": 0.0,
    "l2_weight": 0.0,
    "adversarial_weight": 0.0,
    "adversarial_start": 0,
    "discriminator_channels": 4,
    "discriminator_layers": 1,
}
NOTHING = {"tokens": {"kind": "none"}, "channels": {"kind": "none"}}


def autoencoder(kind: str, **model: Any) -> dict[str, Any]:
    architecture = {
        "channels": 128,
        "channel_mult": [1, 1],
        "num_res_blocks": 1,
        "attention_factors": [],
        "mid_attention": True,
        "latent_channels": 3,
    } | ({"codebook": {"size": 16}} if kind == "vq" else {})
    return {
        "kind": kind,
        "dataset": "pictures",
        "init_from": "none",
        "perceptual": "none",
        "model": architecture | model,
        "loss": LOSS | ({"kl_weight": 1e-6} if kind == "kl" else {}),
        "train": TRAIN | {"betas": [0.5, 0.9], "flip": False},
    }


def diffusion(
    latents: str = "of-vq", autoencoder: str = "vq", condition: dict[str, Any] = NOTHING, **changed: Any
) -> dict[str, Any]:
    unet = {
        "channels": 128,
        "channel_mult": [1, 1],
        "num_res_blocks": 1,
        "attention_factors": [2],
        "transformer_depth": 1,
        "dropout": 0.0,
    } | changed.pop("unet", {"head_channels": 32})
    row = {
        "latents": latents,
        "autoencoder": autoencoder,
        "init_from": "none",
        "condition": condition,
        "unet": unet,
        "objective": "epsilon",
        "schedule": {"kind": "linear", "steps": 1000, "beta_start": 0.0015, "beta_end": 0.0195},
        "scale": 1.0,
        "train": TRAIN | {"loss": "l2"},
    }
    return row | changed


def params(**rows: dict[str, Any]) -> dict[str, Any]:
    """`rows` are those of `diffusion`."""
    latents = {"dataset": "pictures", "vocabulary": "none", "clip": "none", "draws": 1, "flip": False}
    latents |= {"batch": 1, "seed": 0, "low_resolution": {"factor": 2, "degradation": "bicubic"}, "grey": True}
    source = {"kind": "folder", "given_splits": True, "licence": ""}
    return {
        "datasets": {
            "pictures": {
                "raw": "data/raw/none",
                "source": source,
                "size": 16,
                "validation": 0.0,
                "test": 0.0,
                "on_bad_image": "stop",
            }
        },
        "autoencoders": {"kl": autoencoder("kl"), "vq": autoencoder("vq")},
        "latents": {
            "of-kl": latents | {"autoencoder": "kl", "tokens": {"length": 5, "vocabulary_size": 30522}},
            "of-vq": latents
            | {
                "autoencoder": "vq",
                "layout": {"boxes": 2, "vocabulary_size": 40},
                "label_map": True,
                "mask": {"style": "training"},
            },
        },
        "diffusion": rows,
    }


def vocabulary(folder: Path, extra: int = 27) -> Path:
    """A vocab.txt of the five special tokens, the letters and some more."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(chr(ord("a") + i) for i in range(26)), "cat"]
    path = folder / "vocab.txt"
    path.write_text("\n".join(words[: 5 + extra]) + "\n")
    return path
