"""Residual blocks, attention and transformers: what the autoencoder, the UNet and the text encoder are made of."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn


def group_norm(channels: int, eps: float = 1e-5) -> nn.GroupNorm:
    """32 groups as in the paper; for narrower models as many as leave four channels a group.

    With one channel a group the norm would take away what the time embedding, constant over a channel, adds before it.
    """
    groups = math.gcd(32, channels)
    while groups > 1 and channels // groups < 4:
        groups //= 2
    return nn.GroupNorm(groups, channels, eps=eps)


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
        conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.conv2 = zeroed(conv2) if zero else conv2
        self.skip = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b width"] | None = None
    ) -> Float[Tensor, "b out h2 w2"]:
        h = self.conv1(self.resize(F.silu(self.norm1(x))))
        if self.time is None or time is None:
            h = self.norm2(h)
        elif self.scale_shift:
            scale, shift = self.time(F.silu(time))[:, :, None, None].chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + self.time(F.silu(time))[:, :, None, None])
        return self.skip(self.resize(x)) + self.conv2(self.dropout(F.silu(h)))


class SelfAttention2d(nn.Module):
    """Attention of every place to every other, as a residual branch."""

    def __init__(self, channels: int, *, heads: int, eps: float = 1e-5, zero: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels, eps)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        out = nn.Conv2d(channels, channels, 1)
        self.out = zeroed(out) if zero else out

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        # The released layout of the 3c channels is head-major: [head, q | k | v, channels of a head].
        q, k, v = rearrange(self.qkv(self.norm(x)), "b (n three c) h w -> three b n (h w) c", three=3, n=self.heads)
        attended = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(rearrange(attended, "b n (h w) c -> b (n c) h w", h=x.shape[2]))


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
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Float[Tensor, "b c h w"], tokens: Float[Tensor, "b m context"]) -> Float[Tensor, "b c h w"]:
        h = rearrange(self.into(self.norm(x)), "b c h w -> b (h w) c")
        for block in self.blocks:
            h = block(h, tokens)
        return x + self.out(rearrange(h, "b (h w) c -> b c h w", h=x.shape[2]))


class Downsample(nn.Module):
    """Half the size by a strided convolution. First stages pad on the right and bottom only, as released."""

    def __init__(self, channels: int, *, padding: tuple[int, int, int, int] = (1, 1, 1, 1)) -> None:
        super().__init__()
        self.padding = padding
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return self.conv(F.pad(x, self.padding))


class Upsample(nn.Module):
    """Twice the size by nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def sinusoid(step: Int[Tensor, " b"], width: int) -> Float[Tensor, "b width"]:
    """Cosines, then sines, of the step at frequencies from 1 down to 1/10,000."""
    half = width // 2
    frequency = torch.exp(-math.log(10_000) / half * torch.arange(half, device=step.device, dtype=torch.float32))
    angle = step[:, None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)
