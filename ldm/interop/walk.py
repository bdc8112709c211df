"""The layers of our models in order, each with its place, and the links inside those that all dialects share."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from ldm.autoencoder.config import Architecture
from ldm.diffusion.config import Diffusion
from ldm.interop.links import Link, both
from ldm.nn.blocks import ResBlock, SpatialTransformer, TransformerBlock
from ldm.unet.model import Block, UNet

Kind = Literal["conv_in", "res", "attention", "resize", "middle_res", "middle_attention", "norm_out", "conv_out"]


@dataclass(frozen=True)
class Place:
    """Where a layer stands in an encoder or a decoder; levels are counted from the full size."""

    kind: Kind
    level: int = 0
    number: int = 0
    """Among its kind, in its level."""


def encoder_places(config: Architecture) -> list[Place]:
    """Of each layer of `ldm.autoencoder.model.Encoder`."""
    places: list[Place] = [Place("conv_in")]
    for level in range(len(config.channel_mult)):
        if level:
            places.append(Place("resize", level - 1))
        places += _level(config, level, config.num_res_blocks)
    return [*places, *_middle(config), Place("norm_out"), Place("conv_out")]


def decoder_places(config: Architecture) -> list[Place]:
    """Of each layer of `ldm.autoencoder.model.Decoder`."""
    places: list[Place] = [Place("conv_in"), *_middle(config)]
    for level in reversed(range(len(config.channel_mult))):
        places += _level(config, level, config.num_res_blocks + 1)
        if level:
            places.append(Place("resize", level))
    return [*places, Place("norm_out"), Place("conv_out")]


def _level(config: Architecture, level: int, blocks: int) -> Iterator[Place]:
    for number in range(blocks):
        yield Place("res", level, number)
        if 2**level in config.attention_factors:
            yield Place("attention", level, number)


def _middle(config: Architecture) -> Iterator[Place]:
    yield Place("middle_res", number=0)
    if config.mid_attention:
        yield Place("middle_attention")
    yield Place("middle_res", number=1)


def placed(prefix: str, layers: nn.Sequential, places: list[Place]) -> Iterator[tuple[str, nn.Module, Place]]:
    """Our name, layer and place of every layer."""
    for i, (layer, place) in enumerate(zip(layers, places, strict=True)):
        yield f"{prefix}.{i}", layer, place


def denoising(config: Diffusion) -> Diffusion:
    """Raises ValueError of one line where it is that of a classifier, whose layers have no names elsewhere."""
    if config.objective == "label":
        raise ValueError("objective: label makes a classifier, which is neither imported nor exported")
    return config


def unet_layers(unet: UNet) -> Iterator[tuple[str, nn.Module, str, int, int]]:
    """Our name and layer, its part (down, middle, up), its block's number in that part, its own in the block."""
    for part, blocks in (("down", unet.down), ("middle", [unet.middle]), ("up", unet.up)):
        for i, block in enumerate(blocks):
            assert isinstance(block, Block)
            for j, layer in enumerate(block):
                yield (f"middle.{j}" if part == "middle" else f"{part}.{i}.{j}"), layer, part, i, j


def groups(model: nn.Module) -> list[int]:
    """How many groups its group norms have: narrow models of ours have fewer than the 32 of everybody else's."""
    return sorted({layer.num_groups for layer in model.modules() if isinstance(layer, nn.GroupNorm)})


RESIDUAL = ("norm1", "conv1", "time", "norm2", "conv2", "skip")


def residual(block: ResBlock, ours: str, theirs: str, names: Mapping[str, str]) -> Iterator[Link]:
    """`names` says what theirs calls each of ours in RESIDUAL; those without weights are passed over."""
    for name in RESIDUAL:
        layer = getattr(block, name)
        if layer is not None and next(layer.parameters(), None) is not None:
            yield from both(f"{ours}.{name}", f"{theirs}.{names[name]}")


def spatial_transformer(layer: SpatialTransformer, ours: str, theirs: str) -> Iterator[Link]:
    """Released checkpoints and diffusers call these alike."""
    yield from both(f"{ours}.norm", f"{theirs}.norm")
    yield from both(f"{ours}.into", f"{theirs}.proj_in")
    for i, block in enumerate(layer.blocks):
        assert isinstance(block, TransformerBlock)
        yield from _transformer_block(f"{ours}.blocks.{i}", f"{theirs}.transformer_blocks.{i}")
    yield from both(f"{ours}.out", f"{theirs}.proj_out")


def _transformer_block(ours: str, theirs: str) -> Iterator[Link]:
    for i in (1, 2, 3):
        yield from both(f"{ours}.norm{i}", f"{theirs}.norm{i}")
    for name, attn in (("self_attention", "attn1"), ("cross_attention", "attn2")):
        for letter in "qkv":
            yield Link(f"{ours}.{name}.{letter}.weight", (f"{theirs}.{attn}.to_{letter}.weight",))
        yield from both(f"{ours}.{name}.out.0", f"{theirs}.{attn}.to_out.0")
    yield from both(f"{ours}.feed_forward.into", f"{theirs}.ff.net.0.proj")
    yield from both(f"{ours}.feed_forward.out", f"{theirs}.ff.net.2")
