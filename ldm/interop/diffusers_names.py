"""Names in diffusers' models, in the order of our modules."""

from collections.abc import Iterator

from torch import nn

from ldm.autoencoder.config import Architecture
from ldm.autoencoder.model import KLAutoencoder, VQAutoencoder
from ldm.interop.links import Link, both, qkv
from ldm.interop.walk import Place, decoder_places, encoder_places, placed, residual, spatial_transformer, unet_layers
from ldm.nn.blocks import Downsample, ResBlock, SelfAttention2d, SpatialTransformer, Upsample
from ldm.nn.transformer import Transformer
from ldm.unet.model import UNet

_RESIDUAL = {
    "norm1": "norm1",
    "conv1": "conv1",
    "time": "time_emb_proj",
    "norm2": "norm2",
    "conv2": "conv2",
    "skip": "conv_shortcut",
}
_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def current(name: str) -> str:
    """What attention layers of old folders call their parts is not what diffusers calls them now."""
    parts = name.split(".")
    return ".".join([*parts[:-2], _OLD.get(parts[-2], parts[-2]), parts[-1]]) if len(parts) > 1 else name


def unet(model: UNet) -> Iterator[Link]:
    """Of UNet2DModel, or with tokens of UNet2DConditionModel."""
    yield from both("time.0", "time_embedding.linear_1")
    yield from both("time.2", "time_embedding.linear_2")
    yield from both("conv_in", "conv_in")
    blocks = model.config.num_res_blocks
    for ours, layer, part, i, j in unet_layers(model):
        yield from _layer(layer, ours, _numbered(part, layer, *divmod(i, blocks + 1), j, blocks))
    yield from both("norm_out", "conv_norm_out")
    yield from both("conv_out", "conv_out")


def _numbered(part: str, layer: nn.Module, level: int, index: int, j: int, blocks: int) -> str:
    attends = isinstance(layer, SelfAttention2d | SpatialTransformer)
    if part == "middle":
        return "mid_block.attentions.0" if attends else f"mid_block.resnets.{j // 2}"
    if part == "down" and index == blocks:
        return f"down_blocks.{level}.downsamplers.0"
    if part == "up" and j > 0 and not attends:
        return f"up_blocks.{level}.upsamplers.0"
    return f"{part}_blocks.{level}.{'attentions' if attends else 'resnets'}.{index}"


def first_stage(model: KLAutoencoder | VQAutoencoder, config: Architecture) -> Iterator[Link]:
    """Of AutoencoderKL or VQModel."""
    top = len(config.channel_mult) - 1
    for name, coder, places in (
        ("encoder", model.encoder, encoder_places(config)),
        ("decoder", model.decoder, decoder_places(config)),
    ):
        for ours, layer, place in placed(name, coder, places):
            yield from _layer(layer, ours, f"{name}.{_place(name, place, top)}")
    yield from both("to_moments", "quant_conv")
    yield from both("from_latent", "post_quant_conv")
    if isinstance(model, VQAutoencoder):
        yield Link("codebook.codes", ("quantize.embedding.weight",))


def _place(coder: str, place: Place, top: int) -> str:
    block = f"down_blocks.{place.level}" if coder == "encoder" else f"up_blocks.{top - place.level}"
    match place.kind:
        case "res":
            return f"{block}.resnets.{place.number}"
        case "attention":
            return f"{block}.attentions.{place.number}"
        case "resize":
            return f"{block}.{'downsamplers' if coder == 'encoder' else 'upsamplers'}.0"
        case "middle_res":
            return f"mid_block.resnets.{place.number}"
        case "middle_attention":
            return "mid_block.attentions.0"
        case "norm_out":
            return "conv_norm_out"
        case _:
            return place.kind


def _layer(layer: nn.Module, ours: str, theirs: str) -> Iterator[Link]:
    match layer:
        case ResBlock():
            yield from residual(layer, ours, theirs, _RESIDUAL)
        case SpatialTransformer():
            yield from spatial_transformer(layer, ours, theirs)
        case SelfAttention2d():
            yield from both(f"{ours}.norm", f"{theirs}.group_norm")
            yield from qkv(f"{ours}.qkv", (f"{theirs}.to_q", f"{theirs}.to_k", f"{theirs}.to_v"), layer.heads, dims=2)
            yield from both(f"{ours}.out", f"{theirs}.to_out.0", dims=2)
        case Downsample() | Upsample():
            yield from both(f"{ours}.conv", f"{theirs}.conv")
        case _:
            yield from both(ours, theirs)


def text(model: Transformer) -> Iterator[Link]:
    """Of LDMBertModel. Its `to_logits` is ours only where ours has one."""
    yield Link("embedding.weight", ("model.embed_tokens.weight",))
    yield Link("position.weight", ("model.embed_positions.weight",))
    for i in range(len(model.layers)):
        ours, theirs = f"layers.{i}", f"model.layers.{i}"
        yield from both(f"{ours}.norm1", f"{theirs}.self_attn_layer_norm")
        for letter in "qkv":
            yield Link(f"{ours}.attention.{letter}.weight", (f"{theirs}.self_attn.{letter}_proj.weight",))
        yield from both(f"{ours}.attention.out.0", f"{theirs}.self_attn.out_proj")
        yield from both(f"{ours}.norm2", f"{theirs}.final_layer_norm")
        yield from both(f"{ours}.into", f"{theirs}.fc1")
        yield from both(f"{ours}.out", f"{theirs}.fc2")
    yield from both("norm", "model.layer_norm")
    if hasattr(model, "logits"):
        yield from both("logits", "to_logits")
