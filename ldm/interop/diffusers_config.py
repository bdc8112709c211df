"""What diffusers' config.json says of our models; ValueErrors say what it has no words for."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ldm.autoencoder.config import KL, VQ
from ldm.diffusion.config import Diffusion, Linear
from ldm.diffusion.model import DiffusionModel, LatentScale
from ldm.diffusion.schedule import Schedule
from ldm.interop.walk import groups
from ldm.unet.config import UNet

Json = dict[str, Any]
PREDICTION = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}


def groups_of(model: nn.Module) -> int:
    """Of all its group norms: diffusers has one number for a model."""
    found = groups(model)
    if len(found) > 1:
        raise ValueError(
            f"diffusers cannot express norms of {', '.join(map(str, found))} groups in one model: "
            "train with norm_groups: 4, or 32 where every width is a multiple of it"
        )
    return found[0]


def first_stage(config: KL | VQ, model: nn.Module) -> Json:
    """Of AutoencoderKL or VQModel."""
    m = config.model
    attends = [2**level in m.attention_factors for level in range(len(m.channel_mult))]
    common = {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ["AttnDownEncoderBlock2D" if a else "DownEncoderBlock2D" for a in attends],
        "up_block_types": ["AttnUpDecoderBlock2D" if a else "UpDecoderBlock2D" for a in reversed(attends)],
        "block_out_channels": [m.channels * factor for factor in m.channel_mult],
        "layers_per_block": m.num_res_blocks,
        "act_fn": "silu",
        "latent_channels": m.latent_channels,
        "norm_num_groups": groups_of(model),
        "mid_block_add_attention": m.mid_attention,
    }
    if isinstance(config, KL):
        return {"_class_name": "AutoencoderKL", **common, "use_quant_conv": True, "use_post_quant_conv": True}
    return {"_class_name": "VQModel", **common, "num_vq_embeddings": config.model.codebook.size}


def scaled(config: Json, scale: LatentScale) -> Json:
    """The first stage's config with the scale that a diffusion model gives its latents."""
    shift, factor = scale.shift.flatten(), scale.factor.flatten()
    if not shift.any() and bool((factor == factor[0]).all()):
        return config | {"scaling_factor": float(factor[0])}
    if config["_class_name"] == "VQModel":
        raise ValueError("diffusers' VQModel cannot express a scale for each channel (scale: channel)")
    return config | {"scaling_factor": 1.0, "latents_mean": shift.tolist(), "latents_std": (1 / factor).tolist()}


def unet_of(model: DiffusionModel, config: Diffusion) -> Json:
    """Of the UNet of `model`, whose section is `config`."""
    return unet(
        config.unet,
        model.unet,
        into=model.shape[0] + model.conditioner.channels_width,
        out=model.shape[0],
        size=model.shape[1],
        token_width=model.conditioner.token_width,
    )


def unet(config: UNet, model: nn.Module, *, into: int, out: int, size: int, token_width: int) -> Json:
    """Of UNet2DModel, or of UNet2DConditionModel where there are tokens."""
    if config.channel_mult[0] != 1:
        raise ValueError(
            f"diffusers cannot express channel_mult that begins with {config.channel_mult[0]:g}: "
            "its first level is as wide as the first convolution"
        )
    attends = [2**level in config.attention_factors for level in range(len(config.channel_mult))]
    down, up = _block_types(config, attends, bool(token_width))
    common = {
        "sample_size": size,
        "in_channels": into,
        "out_channels": out,
        "down_block_types": down,
        "up_block_types": up,
        "block_out_channels": [int(width) for width in config.widths],
        "layers_per_block": config.num_res_blocks,
        "dropout": config.dropout,
        "act_fn": "silu",
        "norm_num_groups": groups_of(model),
        "norm_eps": 1e-5,
        "resnet_time_scale_shift": "scale_shift" if config.scale_shift_norm else "default",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "center_input_sample": False,
        "downsample_padding": 1,
    }
    if token_width:
        return {
            "_class_name": "UNet2DConditionModel",
            **common,
            "mid_block_type": "UNetMidBlock2DCrossAttn",
            "cross_attention_dim": token_width,
            "transformer_layers_per_block": config.transformer_depth,
            # diffusers calls the number of heads so, by a mistake that its configurations keep
            "attention_head_dim": [max(1, config.heads_of(int(width))) for width in config.widths],
            "use_linear_projection": False,
        }
    resize = "resnet" if config.residual_updown else "conv"
    return {
        "_class_name": "UNet2DModel",
        **common,
        "mid_block_type": "UNetMidBlock2D",
        "downsample_type": resize,
        "upsample_type": resize,
        "attention_head_dim": _head_width(config, attends),
        "attn_norm_num_groups": common["norm_num_groups"],
        "add_attention": True,
    }


def _block_types(config: UNet, attends: list[bool], tokens: bool) -> tuple[list[str], list[str]]:
    if tokens and config.residual_updown and any(attends) and len(attends) > 1:
        raise ValueError(
            "diffusers cannot express residual_updown in a UNet with tokens whose levels attend (attention_factors)"
        )
    kind = "CrossAttn" if tokens else "Attn"
    plain = (
        ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D") if config.residual_updown else ("DownBlock2D", "UpBlock2D")
    )
    down = [f"{kind}DownBlock2D" if a else plain[0] for a in attends]
    return down, [f"{kind}UpBlock2D" if a else plain[1] for a in reversed(attends)]


def _head_width(config: UNet, attends: list[bool]) -> int | None:
    """Channels of a head, at every width the same; None: one head."""
    if config.head_channels:
        return config.head_channels
    assert config.heads is not None
    widths = {int(width) for width, a in zip(config.widths, attends, strict=True) if a} | {int(config.widths[-1])}
    if config.heads == 1:
        return None
    if len(widths) > 1:
        raise ValueError(
            f"diffusers cannot express heads: {config.heads} in a UNet without tokens whose levels with attention "
            "differ in width: it has head_channels, the same for all"
        )
    return widths.pop() // config.heads


def scheduler(config: Diffusion) -> Json:
    """Of DDIMScheduler, with the released spacing of steps; other schedulers read it too (`from_config`)."""
    schedule = config.schedule
    if schedule.kind == "regression":
        raise ValueError("diffusers has no scheduler for a regression (schedule: {kind: regression}): it is one pass")
    common = {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": schedule.steps,
        "prediction_type": PREDICTION[config.objective],
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        # A model that begins at pure noise must be sampled from the very last step.
        "timestep_spacing": "trailing" if schedule.zero_terminal_snr else "leading",
    }
    if isinstance(schedule, Linear):
        ends = {"beta_start": schedule.beta_start, "beta_end": schedule.beta_end}
        return (
            common
            | ends
            | {
                "beta_schedule": "scaled_linear",
                "rescale_betas_zero_snr": schedule.zero_terminal_snr,
            }
        )
    bar = Schedule.from_config(schedule).alpha.double().square()
    beta = 1 - bar / torch.cat([torch.ones(1, dtype=torch.float64), bar[:-1]])
    return common | {"trained_betas": beta.tolist()}


def alphas_cumprod(config: Json) -> Tensor:
    """Of a scheduler's config.json, which may lack what is default."""
    steps = config.get("num_train_timesteps", 1000)
    start, end = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    if config.get("trained_betas") is not None:
        beta = torch.tensor(config["trained_betas"], dtype=torch.float64)
    elif config.get("beta_schedule", "linear") == "scaled_linear":
        beta = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64).square()
    elif config.get("beta_schedule", "linear") == "linear":
        beta = torch.linspace(start, end, steps, dtype=torch.float64)
    else:
        raise ValueError(f"beta_schedule {config['beta_schedule']} is not one of ours")
    bar = (1 - beta).cumprod(0)
    if config.get("rescale_betas_zero_snr"):
        root = bar.sqrt()
        bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()
    return bar


_DEFAULTS: Json = {
    "act_fn": "silu",
    "add_attention": True,
    "attention_head_dim": 8,
    "center_input_sample": False,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "dropout": 0.0,
    "flip_sin_to_cos": True,
    "force_upcast": True,
    "freq_shift": 0,
    "in_channels": 3,
    "mid_block_add_attention": True,
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
    "norm_type": "group",
    "out_channels": 3,
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
    "transformer_layers_per_block": 1,
    "upsample_type": "conv",
    "use_linear_projection": False,
    "use_post_quant_conv": True,
    "use_quant_conv": True,
    "mid_block_scale_factor": 1,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "resnet_out_scale_factor": 1.0,
    "attention_type": "default",
    "addition_embed_type_num_heads": 64,
}
"""What diffusers takes where a config.json says nothing."""

_FREE = {
    "sample_size", "scaling_factor", "shift_factor", "latents_mean", "latents_std", "force_upcast", "dropout",
    "attn_norm_num_groups", "mid_block_type", "reverse_transformer_layers_per_block", "num_attention_heads",
    "vq_embed_dim",
}  # fmt: skip
"""Keys that change no weight or are judged elsewhere."""


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """What a config.json says otherwise than ours would, and what it has that our models have not."""
    wrong = []
    for key in sorted((set(found) | set(expected)) - _FREE):
        if key.startswith("_") and key != "_class_name":
            continue
        here, wanted = found.get(key, _DEFAULTS.get(key)), expected.get(key, _DEFAULTS.get(key))
        if _alike(key, expected)(here) != _alike(key, expected)(wanted) and (here or wanted):
            wrong.append(f"{key} is {here!r}, not {wanted!r}")
    return wrong


def _alike(key: str, expected: Mapping[str, Any]) -> Any:
    """One number stands for as many as there are levels."""
    levels = len(expected.get("block_out_channels", ()))
    each = key in ("attention_head_dim", "layers_per_block", "cross_attention_dim", "transformer_layers_per_block")
    conditional = expected.get("_class_name") == "UNet2DConditionModel"

    def plain(value: Any) -> Any:
        if each and conditional and not isinstance(value, list | tuple):
            return [value] * levels
        return list(value) if isinstance(value, tuple) else value

    return plain
