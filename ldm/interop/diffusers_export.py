"""Our model folders as folders that diffusers' `from_pretrained` loads."""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.autoencoder.config import KL, VQ, Identity, read_row
from ldm.autoencoder.model import build
from ldm.config import check
from ldm.diffusion.config import Diffusion
from ldm.diffusion.model import DiffusionModel, LatentScale
from ldm.files import identity, read_json, write_json
from ldm.interop import diffusers_config, diffusers_names
from ldm.interop.folders import part, save
from ldm.interop.links import write
from ldm.interop.walk import denoising
from ldm.nn.transformer import Transformer
from ldm.nn.weights import read_tensors

WEIGHTS = "diffusion_pytorch_model.safetensors"
OURS = "ldm.json"
"""Beside what diffusers reads: our config.json as it is, so that nothing is lost on the way back."""
REST = "ldm.safetensors"
"""Latent scale and what encodes the condition, for which diffusers has no model."""


def export_diffusers(model: Path, out: Path, *, autoencoder: Path | None = None, averaged: bool = True) -> list[str]:
    """Write `model`, a folder of models/autoencoders or models/diffusion, to `out`, and say what was written where.

    A first stage becomes an AutoencoderKL or a VQModel in `out`. A diffusion model becomes `unet`, `scheduler` and, for
    captions, `bert` and `tokenizer`; with its `autoencoder` also `vqvae`, scaled as its latents are, and then, where
    diffusers has a pipeline for such a model, model_index.json. `averaged`: the averaged weights, else the last ones.

    Raises ValueError of one line for what diffusers cannot express, before anything is written.
    """
    identity(model)
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out}: not empty; name a folder that is not there yet")
    about = read_json(model / "config.json")
    try:
        if "diffusion" in about:
            return _diffusion(model, about, out, autoencoder, averaged)
        return _first_stage(model, out, None)
    except ValueError as error:
        raise ValueError(f"{model}: {error}") from None


def _first_stage(folder: Path, out: Path, scale: LatentScale | None) -> list[str]:
    config = _section(folder)
    with torch.device("meta"):
        stage = build(config)
    words = diffusers_config.first_stage(config, stage)
    if scale is not None:
        words = diffusers_config.scaled(words, scale)
    ours = read_tensors(folder / "model.safetensors")
    _model(out, words, write(diffusers_names.first_stage(stage, config.model), ours))
    write_json(out / OURS, config.model_dump())
    return [f"{out}: {words['_class_name']}"]


def _section(folder: Path) -> KL | VQ:
    config = read_row(folder / "config.json")
    if isinstance(config, Identity):
        raise ValueError("diffusers has no model for kind identity: its pictures are the latents")
    return config


def _diffusion(folder: Path, about: dict[str, Any], out: Path, autoencoder: Path | None, averaged: bool) -> list[str]:
    config = denoising(check(about["diffusion"], Diffusion, "diffusion", file=str(folder / "config.json")))
    info = about["latents"]
    if autoencoder is not None and identity(autoencoder) != info["autoencoder"]:
        raise ValueError(f"trained on latents of another autoencoder than {autoencoder}")
    with torch.device("meta"):
        model = DiffusionModel(config, info)
    state = read_tensors(folder / ("ema.safetensors" if averaged else "model.safetensors"))
    scale = LatentScale(*(state[f"scale.{name}"].flatten() for name in ("shift", "factor")))
    words = diffusers_config.unet_of(model, config)
    said = _first_stage(autoencoder, out / "vqvae", scale) if autoencoder is not None else []
    _model(out / "unet", words, write(diffusers_names.unet(model.unet), part(state, "unet")))
    write_json(out / "scheduler" / "scheduler_config.json", diffusers_config.scheduler(config))
    said += [f"{out / 'unet'}: {words['_class_name']}", f"{out / 'scheduler'}: DDIMScheduler"]
    write_json(out / OURS, about)
    save({name: tensor for name, tensor in state.items() if not name.startswith("unet.")}, out / REST)
    said.append(f"{out / REST}: latent scale and what encodes the condition, under our names")
    if (folder / "tokenizer").is_dir():
        shutil.copytree(folder / "tokenizer", out / "tokenizer")
    captions = config.condition.tokens.kind == "text"  # type: ignore[attr-defined]
    if captions:
        transformer = model.conditioner.tokens.transformer
        assert isinstance(transformer, Transformer)
        _bert(out / "bert", transformer, part(state, "conditioner.tokens.transformer"), config.condition.tokens)
        said.append(f"{out / 'bert'}: LDMBertModel")
    return said if autoencoder is None else said + _index(out, config, info)


def _bert(out: Path, model: Transformer, ours: dict[str, Tensor], config: Any) -> None:
    vocabulary, width = model.embedding.weight.shape
    state = write(diffusers_names.text(model), ours)
    if "to_logits.weight" not in state:  # which nothing reads, but the model has it
        state |= {"to_logits.weight": torch.zeros(vocabulary, width), "to_logits.bias": torch.zeros(vocabulary)}
    save(state, out / "model.safetensors")
    write_json(
        out / "config.json",
        {
            "architectures": ["LDMBertModel"],
            "model_type": "ldmbert",
            "vocab_size": vocabulary,
            "max_position_embeddings": len(model.position.weight),
            "encoder_layers": len(model.layers),
            "encoder_ffn_dim": 4 * width,
            "encoder_attention_heads": config.heads,
            "head_dim": config.head_width,
            "d_model": width,
            "dropout": config.dropout,
            "activation_function": "gelu",
            "pad_token_id": 0,
        },
    )


def _index(out: Path, config: Diffusion, info: dict[str, Any]) -> list[str]:
    """model_index.json for the two pipelines that diffusers has for models as these.

    That of captions takes factor 8 and 77 tokens for granted.
    """
    kind, of_its_size = info["kind"], info["factor"] == 8 and len(info["null_tokens"]) == 77
    channels = config.condition.channels.kind  # type: ignore[attr-defined]
    tokens = config.condition.tokens.kind  # type: ignore[attr-defined]
    parts = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDIMScheduler"]}
    if (kind, tokens, channels) == ("vq", "none", "none"):
        pipeline = "LDMPipeline"
        parts["vqvae"] = ["diffusers", "VQModel"]
    elif tokens == "text" and channels == "none" and of_its_size and (out / "tokenizer").is_dir():
        pipeline = "LDMTextToImagePipeline"
        parts["unet"] = ["diffusers", "UNet2DConditionModel"]
        parts["vqvae"] = ["diffusers", "AutoencoderKL" if kind == "kl" else "VQModel"]
        parts |= {"bert": ["latent_diffusion", "LDMBertModel"], "tokenizer": ["transformers", "BertTokenizer"]}
    else:
        return []
    write_json(out / "model_index.json", {"_class_name": pipeline, **parts})
    return [f"{out}: {pipeline}"]


def _model(out: Path, words: dict[str, Any], state: dict[str, Tensor]) -> None:
    save(state, out / WEIGHTS)
    write_json(out / "config.json", words)
