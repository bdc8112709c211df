"""Residual blocks, attention and transformers: what the autoencoder, the UNet and the text encoder are made of."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldm.nn import fused


def group_norm(channels: int, eps: float = 1e-5) -> nn.GroupNorm:
    """32 groups as in the paper; for narrower models as many as leave four channels a group.

    With one channel a group the norm would take away what the time embedding, constant over a channel, adds before it.
    """
    return nn.GroupNorm(_groups(channels), channels, eps=eps)


def _groups(channels: int) -> int:
    groups = math.gcd(32, channels)
    while groups > 1 and channels // groups < 4:
        groups //= 2
    return groups


def with_groups(model: nn.Module, groups: int | None) -> None:
    """Give all group norms of `model` the same number of groups; None leaves them as they are.

    Raises ValueError of one line where a layer's width is no multiple of it.
    """
    for layer in model.modules():
        if groups is not None and isinstance(layer, nn.GroupNorm):
            if layer.num_channels % groups:
                raise ValueError(f"norm_groups {groups} does not divide a layer of {layer.num_channels} channels")
            layer.num_groups = groups


def normed(x: Float[Tensor, "b c h w"], norm: nn.GroupNorm, *, silu: bool) -> tuple[Tensor, Tensor]:
    """The norm of `x`, then SiLU if asked for; and `x` for the residual branch beside it (ldm.nn.fused says why)."""
    if fused.usable(x):
        h, x = fused.norm_silu(x, norm, silu=silu)
        return h, x
    h = norm(x)
    return (F.silu(h) if silu else h), x


class NormSiLU(nn.GroupNorm):
    """A group norm, then SiLU."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(_groups(channels), channels, eps=eps)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return fused.norm_silu(x, self)[0] if fused.usable(x) else F.silu(super().forward(x))


def zeroed(module: nn.Module) -> nn.Module:
    """A residual branch that ends in zeros starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class ResBlock(nn.Module):
    """norm, SiLU, conv, twice; the time embedding, where there is one, comes between.

    It is added before the second norm or, with `scale_shift`, scales and shifts what that norm gives. `resize`, a layer
    without weights, changes the size of both branches before the first convolution.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        *,
        time_width: int = 0,
        scale_shift: bool = False,
        resize: nn.Module | None = None,
        dropout: float = 0.0,
        eps: float = 1e-5,
        zero: bool = False,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.norm1 = group_norm(channels, eps)
        self.resize = resize or nn.Identity()
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.time = nn.Linear(time_width, 2 * out if scale_shift else out) if time_width else None
        self.norm2 = group_norm(out, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        if zero:
            zeroed(self.conv2)
        self.skip = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        time: Float[Tensor, "b width"] | None = None,
        beside: Float[Tensor, "b c2 h w"] | None = None,
    ) -> Float[Tensor, "b out h2 w2"]:
        """`beside`: more channels, after those of `x`."""
        if fused.usable(x):
            return self._fused(x, time, beside)
        x = x if beside is None else torch.cat([x, beside], dim=1)
        h = self.conv1(self.resize(F.silu(self.norm1(x))))
        if self.time is None or time is None:
            h = self.norm2(h)
        elif self.scale_shift:
            scale, shift = self.time(F.silu(time))[:, :, None, None].chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + self.time(F.silu(time))[:, :, None, None])
        return self.skip(self.resize(x)) + self.conv2(self.dropout(F.silu(h)))

    def _fused(self, x: Tensor, time: Tensor | None, beside: Tensor | None) -> Tensor:
        """The same in fewer passes over memory: biases join the norm or the sum that follows."""
        h, *maps = fused.norm_silu(x, self.norm1, beside=beside)
        h = _without_bias(self.conv1, self.resize(h))
        shift, affine, bias = _bias(self.conv1)[None], None, _bias(self.conv2)
        if self.time is not None and time is not None:
            emb = self.time(F.silu(time))
            if self.scale_shift:
                scale, moved = emb.chunk(2, dim=1)
                affine = self.norm2.weight * (1 + scale), self.norm2.bias * (1 + scale) + moved
            else:
                shift = shift + emb
        h, _ = fused.norm_silu(h, self.norm2, shift=shift, affine=affine)
        h = _without_bias(self.conv2, self.dropout(h))
        maps = [self.resize(m) for m in maps]
        if isinstance(self.skip, nn.Conv2d):
            bias = bias + _bias(self.skip)
            return fused.add(_product(self.skip.weight, maps), h, bias)
        return fused.add(maps[0], h, bias)


def pointwise(conv: nn.Conv2d, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b out h w"]:
    """A 1 x 1 convolution; of a map that lies channels last as the matrix product it is."""
    if not fused.usable(x):
        y: Tensor = conv(x)
        return y
    return F.linear(x.permute(0, 2, 3, 1), conv.weight.flatten(1), conv.bias).permute(0, 3, 1, 2)


def _product(weight: Float[Tensor, "out c 1 1"], maps: Sequence[Tensor]) -> Float[Tensor, "b out h w"]:
    """Of a 1 x 1 convolution and the channels of all `maps`."""
    first, *rest = weight.flatten(1).split([m.shape[1] for m in maps], dim=1)
    y = F.linear(maps[0].permute(0, 2, 3, 1), first)
    for m, w in zip(maps[1:], rest, strict=True):
        y = torch.addmm(y.flatten(0, 2), m.permute(0, 2, 3, 1).flatten(0, 2), w.t()).view_as(y)
    return y.permute(0, 3, 1, 2)


def _without_bias(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, conv.weight, None, conv.stride, conv.padding)


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None  # every convolution here has one
    return conv.bias


class SelfAttention2d(nn.Module):
    """Attention of every place to every other, as a residual branch."""

    def __init__(self, channels: int, *, heads: int, eps: float = 1e-5, zero: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels, eps)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        if zero:
            zeroed(self.out)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        # The released layout of the 3c channels is head-major: [head, q | k | v, channels of a head].
        h, x = normed(x, self.norm, silu=False)
        qkv = rearrange(pointwise(self.qkv, h), "b (n three c) h w -> b n (h w) three c", three=3, n=self.heads)
        attended = F.scaled_dot_product_attention(*_Unstacked.apply(qkv))
        attended = rearrange(attended.transpose(1, 2), "b (h w) n c -> b (n c) h w", h=x.shape[2])
        return x + pointwise(self.out, attended)


class _Unstacked(torch.autograd.Function):
    """`unbind(3)`, whose gradient is written where the stack lies in memory, in one copy."""

    @staticmethod
    def forward(ctx: Any, stack: Tensor) -> tuple[Tensor, ...]:
        ctx.strides = stack.stride()
        ctx.shape = stack.shape
        return stack.unbind(3)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        first = gradients[0]
        whole = torch.empty_strided(ctx.shape, ctx.strides, dtype=first.dtype, device=first.device)
        for part, gradient in zip(whole.unbind(3), gradients, strict=True):
            part.copy_(gradient)
        return whole


class Attention(nn.Module):
    """Multi-head attention of `x` to `context`, or to itself."""

    def __init__(
        self, width: int, *, heads: int, head_width: int, context_width: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.q = nn.Linear(width, inner, bias=False)
        self.k = nn.Linear(context_width or width, inner, bias=False)
        self.v = nn.Linear(context_width or width, inner, bias=False)
        self.out = nn.Sequential(nn.Linear(inner, width), nn.Dropout(dropout))

    def forward(
        self, x: Float[Tensor, "b n width"], context: Float[Tensor, "b m context"] | None = None
    ) -> Float[Tensor, "b n width"]:
        source = x if context is None else context
        q, k, v = (
            rearrange(y, "b n (heads c) -> b heads n c", heads=self.heads)
            for y in (self.q(x), self.k(source), self.v(source))
        )
        return self.out(rearrange(F.scaled_dot_product_attention(q, k, v), "b heads n c -> b n (heads c)"))


class GatedFeedForward(nn.Module):
    """A GELU-gated layer of four times the width (GEGLU, arXiv 2002.05202)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.into = nn.Linear(width, 8 * width)
        self.out = nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        value, gate = self.into(x).chunk(2, dim=-1)
        return self.out(value * F.gelu(gate))


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to the condition's tokens, feed-forward; each after a norm, each residual."""

    def __init__(self, width: int, *, heads: int, context_width: int) -> None:
        super().__init__()
        head_width = width // heads
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.self_attention = Attention(width, heads=heads, head_width=head_width)
        self.cross_attention = Attention(width, heads=heads, head_width=head_width, context_width=context_width)
        self.feed_forward = GatedFeedForward(width)

    def forward(
        self, x: Float[Tensor, "b n width"], tokens: Float[Tensor, "b m context"]
    ) -> Float[Tensor, "b n width"]:
        x = x + self.self_attention(self.norm1(x))
        x = x + self.cross_attention(self.norm2(x), tokens)
        return x + self.feed_forward(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the places of a feature map that attend to the condition's tokens (paper, appendix E)."""

    def __init__(self, channels: int, *, heads: int, depth: int, context_width: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, eps=1e-6)
        self.into = nn.Conv2d(channels, channels, 1)
        self.blocks = nn.ModuleList(
            TransformerBlock(channels, heads=heads, context_width=context_width) for _ in range(depth)
        )
        self.out = nn.Conv2d(channels, channels, 1)
        zeroed(self.out)

    def forward(self, x: Float[Tensor, "b c h w"], tokens: Float[Tensor, "b m context"]) -> Float[Tensor, "b c h w"]:
        h, x = normed(x, self.norm, silu=False)
        h = rearrange(pointwise(self.into, h), "b c h w -> b (h w) c")
        for block in self.blocks:
            h = block(h, tokens)
        return x + pointwise(self.out, rearrange(h, "b (h w) c -> b c h w", h=x.shape[2]))


class Downsample(nn.Module):
    """Half the size by a strided convolution. First stages pad on the right and bottom only, as released."""

    def __init__(self, channels: int, *, padding: tuple[int, int, int, int] = (1, 1, 1, 1)) -> None:
        super().__init__()
        even = len(set(padding)) == 1
        self.padding = None if even else padding
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding[0] if even else 0)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return self.conv(F.pad(x, self.padding) if self.padding else x)


class Upsample(nn.Module):
    """Twice the size by nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        with torch.autocast("cuda", enabled=False):  # which would copy it in float32
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.conv(x)


def sinusoid(step: Int[Tensor, " b"], width: int) -> Float[Tensor, "b width"]:
    """Cosines, then sines, of the step at frequencies from 1 down to 1/10,000."""
    half = width // 2
    frequency = torch.exp(-math.log(10_000) / half * torch.arange(half, device=step.device, dtype=torch.float32))
    angle = step[:, None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)
