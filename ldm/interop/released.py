"""Names in the checkpoints that the paper's authors released, in the order of our modules (PAPER: same numbering)."""

from collections.abc import Iterator

from torch import nn

from ldm.autoencoder.config import Architecture
from ldm.autoencoder.model import KLAutoencoder, VQAutoencoder
from ldm.conditioning import Conditioner
from ldm.interop.links import Link, both, qkv
from ldm.interop.walk import Place, decoder_places, encoder_places, placed, residual, spatial_transformer, unet_layers
from ldm.nn.blocks import Downsample, ResBlock, SelfAttention2d, SpatialTransformer, Upsample
from ldm.nn.transformer import Transformer
from ldm.unet.model import UNet

UNET = "model.diffusion_model."
EMA = "model_ema."
FIRST_STAGE = "first_stage_model."
CONDITION = "cond_stage_model."

SCHEDULE = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)
"""Buffers at the root of a diffusion model's checkpoint; all follow from the first."""

_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "skip": "skip_connection",
}
_RESIDUAL_OF_FIRST_STAGE = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2"} | {
    "time": "temb_proj",
    "skip": "nin_shortcut",
}


def averaged(name: str) -> str:
    """What the average of a parameter is called, both without their prefixes of the first level.

    Every dot is gone, so a name can be made from the parameter's but not taken apart again.
    """
    return name.replace(".", "")


def unet(model: UNet) -> Iterator[Link]:
    """Below `model.diffusion_model.`."""
    yield from both("time.0", "time_embed.0")
    yield from both("time.2", "time_embed.2")
    yield from both("conv_in", "input_blocks.0.0")
    for ours, layer, part, i, j in unet_layers(model):
        yield from _layer(layer, ours, _numbered(part, i, j))
    yield from both("norm_out", "out.0")
    yield from both("conv_out", "out.2")


def _numbered(part: str, block: int, layer: int) -> str:
    match part:
        case "down":
            return f"input_blocks.{block + 1}.{layer}"  # the first is the convolution that takes the noisy latent
        case "middle":
            return f"middle_block.{layer}"
        case _:
            return f"output_blocks.{block}.{layer}"


def _layer(layer: nn.Module, ours: str, theirs: str) -> Iterator[Link]:
    match layer:
        case ResBlock():
            yield from residual(layer, ours, theirs, _RESIDUAL)
        case SpatialTransformer():
            yield from spatial_transformer(layer, ours, theirs)
        case SelfAttention2d():
            yield from both(f"{ours}.norm", f"{theirs}.norm")
            yield from both(f"{ours}.qkv", f"{theirs}.qkv", dims=3)
            yield from both(f"{ours}.out", f"{theirs}.proj_out", dims=3)
        case Downsample():
            yield from both(f"{ours}.conv", f"{theirs}.op")
        case Upsample():
            yield from both(f"{ours}.conv", f"{theirs}.conv")


def first_stage(model: KLAutoencoder | VQAutoencoder, config: Architecture) -> Iterator[Link]:
    """Below `first_stage_model.`, or at the root of a first stage's own checkpoint."""
    for name, coder, places in (
        ("encoder", model.encoder, encoder_places(config)),
        ("decoder", model.decoder, decoder_places(config)),
    ):
        for ours, layer, place in placed(name, coder, places):
            yield from _first_stage_layer(layer, ours, f"{name}.{_place(name, place)}")
    yield from both("to_moments", "quant_conv")
    yield from both("from_latent", "post_quant_conv")
    if isinstance(model, VQAutoencoder):
        yield Link("codebook.codes", ("quantize.embedding.weight",))


def _place(coder: str, place: Place) -> str:
    side = "down" if coder == "encoder" else "up"
    match place.kind:
        case "res":
            return f"{side}.{place.level}.block.{place.number}"
        case "attention":
            return f"{side}.{place.level}.attn.{place.number}"
        case "resize":
            return f"{side}.{place.level}.{'downsample' if coder == 'encoder' else 'upsample'}.conv"
        case "middle_res":
            return f"mid.block_{place.number + 1}"
        case "middle_attention":
            return "mid.attn_1"
        case _:
            return place.kind


def _first_stage_layer(layer: nn.Module, ours: str, theirs: str) -> Iterator[Link]:
    match layer:
        case ResBlock():
            yield from residual(layer, ours, theirs, _RESIDUAL_OF_FIRST_STAGE)
        case SelfAttention2d():
            yield from both(f"{ours}.norm", f"{theirs}.norm")
            yield from qkv(f"{ours}.qkv", (f"{theirs}.q", f"{theirs}.k", f"{theirs}.v"), layer.heads)
            yield from both(f"{ours}.out", f"{theirs}.proj_out")
        case Downsample() | Upsample():
            yield from both(f"{ours}.conv", theirs)
        case _:
            yield from both(ours, theirs)


def conditioner(model: Conditioner, tokens: str, channels: str) -> Iterator[Link]:
    """Below `cond_stage_model.`; `tokens` and `channels` are the kinds of both parts."""
    match tokens:
        case "text" | "layout":
            transformer = model.tokens.transformer
            assert isinstance(transformer, Transformer)
            yield from _text(len(transformer.layers), hasattr(transformer, "logits"))
        case "label":
            yield Link("tokens.embedding.weight", ("embedding.weight",))
    if channels == "label_map":
        yield Link("channels.mapper.weight", ("channel_mapper.weight",))


def _text(layers: int, logits: bool) -> Iterator[Link]:
    ours, theirs = "tokens.transformer", "transformer"
    yield Link(f"{ours}.embedding.weight", (f"{theirs}.token_emb.weight",))
    yield Link(f"{ours}.position.weight", (f"{theirs}.pos_emb.emb.weight",))
    for i in range(layers):
        attention, feed_forward = (f"{theirs}.attn_layers.layers.{2 * i + half}" for half in (0, 1))
        mine = f"{ours}.layers.{i}"
        yield from both(f"{mine}.norm1", f"{attention}.0")
        for letter in "qkv":
            yield Link(f"{mine}.attention.{letter}.weight", (f"{attention}.1.to_{letter}.weight",))
        yield from both(f"{mine}.attention.out.0", f"{attention}.1.to_out")
        yield from both(f"{mine}.norm2", f"{feed_forward}.0")
        yield from both(f"{mine}.into", f"{feed_forward}.1.net.0.0")
        yield from both(f"{mine}.out", f"{feed_forward}.1.net.2")
    yield from both(f"{ours}.norm", f"{theirs}.norm")
    if logits:
        yield from both(f"{ours}.logits", f"{theirs}.to_logits")
