"""Random weights under the names of released checkpoints, written down from the release, not from our modules.

Scaled so that activations stay near one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def drawn(shapes: Shapes, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) / max(1, torch.Size(shape[1:]).numel()) ** 0.5
        if len(shape) > 1
        else 0.1 * torch.randn(shape, generator=generator) + (1.0 if name.endswith("weight") else 0.0)  # norms
        for name, shape in shapes.items()
    }


def _layer(shapes: Shapes, name: str, weight: Sequence[int], bias: bool = True) -> None:
    shapes[f"{name}.weight"] = tuple(weight)
    if bias:
        shapes[f"{name}.bias"] = (weight[0],)


def _residual(shapes: Shapes, name: str, channels: int, out: int, time: int, doubled: bool) -> None:
    _layer(shapes, f"{name}.in_layers.0", [channels])
    _layer(shapes, f"{name}.in_layers.2", [out, channels, 3, 3])
    _layer(shapes, f"{name}.emb_layers.1", [out * (2 if doubled else 1), time])
    _layer(shapes, f"{name}.out_layers.0", [out])
    _layer(shapes, f"{name}.out_layers.3", [out, out, 3, 3])
    if channels != out:
        _layer(shapes, f"{name}.skip_connection", [out, channels, 1, 1])


def _attention(shapes: Shapes, name: str, c: int, context: int | None, depth: int) -> None:
    _layer(shapes, f"{name}.norm", [c])
    if context is None:
        _layer(shapes, f"{name}.qkv", [3 * c, c, 1])
        _layer(shapes, f"{name}.proj_out", [c, c, 1])
        return
    _layer(shapes, f"{name}.proj_in", [c, c, 1, 1])
    for i in range(depth):
        block = f"{name}.transformer_blocks.{i}"
        for attention, source in (("attn1", c), ("attn2", context)):
            _layer(shapes, f"{block}.{attention}.to_q", [c, c], bias=False)
            _layer(shapes, f"{block}.{attention}.to_k", [c, source], bias=False)
            _layer(shapes, f"{block}.{attention}.to_v", [c, source], bias=False)
            _layer(shapes, f"{block}.{attention}.to_out.0", [c, c])
        _layer(shapes, f"{block}.ff.net.0.proj", [8 * c, c])
        _layer(shapes, f"{block}.ff.net.2", [c, 4 * c])
        for norm in ("norm1", "norm2", "norm3"):
            _layer(shapes, f"{block}.{norm}", [c])
    _layer(shapes, f"{name}.proj_out", [c, c, 1, 1])


def unet(
    *,
    channels: int,
    mult: Sequence[int],
    blocks: int,
    attention: Sequence[int],
    into: int,
    out: int,
    context: int | None = None,
    depth: int = 1,
    scale_shift: bool = False,
    updown: bool = False,
) -> Shapes:
    """Names below `model.diffusion_model.`."""
    shapes: Shapes = {}
    time = 4 * channels
    _layer(shapes, "time_embed.0", [time, channels])
    _layer(shapes, "time_embed.2", [time, time])
    _layer(shapes, "input_blocks.0.0", [channels, into, 3, 3])
    skips, c, n = [channels], channels, 0
    for level, factor in enumerate(mult):
        for _ in range(blocks):
            n += 1
            _residual(shapes, f"input_blocks.{n}.0", c, channels * factor, time, scale_shift)
            c = channels * factor
            if 2**level in attention:
                _attention(shapes, f"input_blocks.{n}.1", c, context, depth)
            skips.append(c)
        if level < len(mult) - 1:
            n += 1
            if updown:
                _residual(shapes, f"input_blocks.{n}.0", c, c, time, scale_shift)
            else:
                _layer(shapes, f"input_blocks.{n}.0.op", [c, c, 3, 3])
            skips.append(c)
    _residual(shapes, "middle_block.0", c, c, time, scale_shift)
    _attention(shapes, "middle_block.1", c, context, depth)
    _residual(shapes, "middle_block.2", c, c, time, scale_shift)
    n = 0
    for level, factor in reversed(list(enumerate(mult))):
        for i in range(blocks + 1):
            _residual(shapes, f"output_blocks.{n}.0", c + skips.pop(), channels * factor, time, scale_shift)
            c, layer = channels * factor, 1
            if 2**level in attention:
                _attention(shapes, f"output_blocks.{n}.{layer}", c, context, depth)
                layer += 1
            if level and i == blocks:
                if updown:
                    _residual(shapes, f"output_blocks.{n}.{layer}", c, c, time, scale_shift)
                else:
                    _layer(shapes, f"output_blocks.{n}.{layer}.conv", [c, c, 3, 3])
            n += 1
    _layer(shapes, "out.0", [c])
    _layer(shapes, "out.2", [out, c, 3, 3])
    return shapes


def _block(shapes: Shapes, name: str, channels: int, out: int) -> None:
    _layer(shapes, f"{name}.norm1", [channels])
    _layer(shapes, f"{name}.conv1", [out, channels, 3, 3])
    _layer(shapes, f"{name}.norm2", [out])
    _layer(shapes, f"{name}.conv2", [out, out, 3, 3])
    if channels != out:
        _layer(shapes, f"{name}.nin_shortcut", [out, channels, 1, 1])


def _attn(shapes: Shapes, name: str, c: int) -> None:
    _layer(shapes, f"{name}.norm", [c])
    for part in ("q", "k", "v", "proj_out"):
        _layer(shapes, f"{name}.{part}", [c, c, 1, 1])


def first_stage(
    *, channels: int, mult: Sequence[int], blocks: int, attention: Sequence[int], z: int, codes: int | None, mid: bool
) -> Shapes:
    """Names below `first_stage_model.`; `codes` is the codebook's size, None for KL."""
    shapes: Shapes = {}
    doubled = z if codes else 2 * z
    _layer(shapes, "encoder.conv_in", [channels, 3, 3, 3])
    c = channels
    for level, factor in enumerate(mult):
        for i in range(blocks):
            _block(shapes, f"encoder.down.{level}.block.{i}", c, channels * factor)
            c = channels * factor
            if 2**level in attention:
                _attn(shapes, f"encoder.down.{level}.attn.{i}", c)
        if level < len(mult) - 1:
            _layer(shapes, f"encoder.down.{level}.downsample.conv", [c, c, 3, 3])
    for side in ("encoder", "decoder"):
        if side == "decoder":
            _layer(shapes, "decoder.conv_in", [c, z, 3, 3])
        _block(shapes, f"{side}.mid.block_1", c, c)
        if mid:
            _attn(shapes, f"{side}.mid.attn_1", c)
        _block(shapes, f"{side}.mid.block_2", c, c)
    _layer(shapes, "encoder.norm_out", [c])
    _layer(shapes, "encoder.conv_out", [doubled, c, 3, 3])
    for level, factor in reversed(list(enumerate(mult))):
        for i in range(blocks + 1):
            _block(shapes, f"decoder.up.{level}.block.{i}", c, channels * factor)
            c = channels * factor
            if 2**level in attention:
                _attn(shapes, f"decoder.up.{level}.attn.{i}", c)
        if level:
            _layer(shapes, f"decoder.up.{level}.upsample.conv", [c, c, 3, 3])
    _layer(shapes, "decoder.norm_out", [c])
    _layer(shapes, "decoder.conv_out", [3, c, 3, 3])
    _layer(shapes, "quant_conv", [doubled, doubled, 1, 1])
    _layer(shapes, "post_quant_conv", [z, z, 1, 1])
    if codes:
        shapes["quantize.embedding.weight"] = (codes, z)
    return shapes


def text(*, vocabulary: int, length: int, width: int, layers: int, heads: int = 8, head_width: int = 64) -> Shapes:
    """Names below `cond_stage_model.`."""
    shapes: Shapes = {"transformer.token_emb.weight": (vocabulary, width)}
    shapes["transformer.pos_emb.emb.weight"] = (length, width)
    inner = heads * head_width
    for i in range(layers):
        attention, feed_forward = (f"transformer.attn_layers.layers.{n}" for n in (2 * i, 2 * i + 1))
        _layer(shapes, f"{attention}.0", [width])
        for part in ("to_q", "to_k", "to_v"):
            _layer(shapes, f"{attention}.1.{part}", [inner, width], bias=False)
        _layer(shapes, f"{attention}.1.to_out", [width, inner])
        _layer(shapes, f"{feed_forward}.0", [width])
        _layer(shapes, f"{feed_forward}.1.net.0.0", [4 * width, width])
        _layer(shapes, f"{feed_forward}.1.net.2", [width, 4 * width])
    _layer(shapes, "transformer.norm", [width])
    _layer(shapes, "transformer.to_logits", [vocabulary, width])
    return shapes


def schedule(start: float, end: float, steps: int = 1000) -> dict[str, Tensor]:
    """The twelve buffers at the root."""
    beta = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    bar = (1 - beta).cumprod(0)
    previous = torch.cat([torch.ones(1, dtype=torch.float64), bar[:-1]])
    variance = beta * (1 - previous) / (1 - bar)
    buffers = {
        "betas": beta,
        "alphas_cumprod": bar,
        "alphas_cumprod_prev": previous,
        "sqrt_alphas_cumprod": bar.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - bar).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - bar).log(),
        "sqrt_recip_alphas_cumprod": (1 / bar).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / bar - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp_min(1e-20).log(),
        "posterior_mean_coef1": beta * previous.sqrt() / (1 - bar),
        "posterior_mean_coef2": (1 - previous) * (1 - beta).sqrt() / (1 - bar),
    }
    return {name: buffer.float() for name, buffer in buffers.items()}


def averages(unet: dict[str, Tensor], by: float) -> dict[str, Tensor]:
    """`model_ema.*`: every weight multiplied, so that it can be told apart."""
    named = {"model_ema.diffusion_model" + name.replace(".", ""): by * tensor for name, tensor in unet.items()}
    return named | {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}
