"""The time-conditional UNet with attention to tokens and concatenated channels (paper, section 3.3)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldm.nn.blocks import (
    Downsample,
    ResBlock,
    SelfAttention2d,
    SpatialTransformer,
    Upsample,
    group_norm,
    sinusoid,
    zeroed,
)
from ldm.nn.condition import Condition
from ldm.unet import config as c


class Level(nn.Module):
    """A residual block and, at some levels, attention."""

    def __init__(self, res: ResBlock, attention: nn.Module | None) -> None:
        super().__init__()
        self.res = res
        self.attention = attention

    def forward(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b width"], tokens: Float[Tensor, "b n k"] | None
    ) -> Float[Tensor, "b out h w"]:
        x = self.res(x, time)
        if self.attention is None:
            return x
        return self.attention(x) if tokens is None else self.attention(x, tokens)


class UNet(nn.Module):
    """Predicts, from a noisy latent, its step and a condition, a tensor of the latent's shape.

    `condition_channels` are concatenated to the latent, `token_width` is the width of the condition's tokens (0: none).
    """

    def __init__(
        self, config: c.UNet, *, latent_channels: int, condition_channels: int = 0, token_width: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        widths = [int(width) for width in config.widths]
        first, time_width = config.channels, 4 * config.channels

        def res(channels: int, out: int) -> ResBlock:
            return ResBlock(channels, out, time_width=time_width, dropout=config.dropout, zero=True)

        def attention(channels: int) -> nn.Module:
            if token_width:
                return SpatialTransformer(
                    channels, heads=config.heads, depth=config.transformer_depth, context_width=token_width
                )
            return SelfAttention2d(channels, heads=config.heads, zero=True)

        def level(channels: int, out: int, factor: int) -> Level:
            return Level(res(channels, out), attention(out) if factor in config.attention_factors else None)

        self.time = nn.Sequential(nn.Linear(config.channels, time_width), nn.SiLU(), nn.Linear(time_width, time_width))
        self.conv_in = nn.Conv2d(latent_channels + condition_channels, first, 3, padding=1)
        self.down = nn.ModuleList()
        skips, channels = [first], first
        for i, width in enumerate(widths):
            for _ in range(config.num_res_blocks):
                self.down.append(level(channels, width, 2**i))
                channels = width
                skips.append(channels)
            if i < len(widths) - 1:
                self.down.append(Downsample(channels))
                skips.append(channels)
        self.middle = nn.ModuleList(
            [Level(res(channels, channels), attention(channels)), Level(res(channels, channels), None)]
        )
        self.up = nn.ModuleList()
        for i, width in reversed(list(enumerate(widths))):
            for _ in range(config.num_res_blocks + 1):
                self.up.append(level(channels + skips.pop(), width, 2**i))
                channels = width
            if i > 0:
                self.up.append(Upsample(channels))
        self.norm_out = group_norm(channels)
        self.conv_out = zeroed(nn.Conv2d(channels, latent_channels, 3, padding=1))

    def forward(
        self, noisy: Float[Tensor, "b c h w"], step: Int[Tensor, " b"], condition: Condition | None = None
    ) -> Float[Tensor, "b c h w"]:
        condition = condition or Condition()
        time = self.time(sinusoid(step, self.config.channels))
        x = self.conv_in(noisy if condition.channels is None else torch.cat([noisy, condition.channels], dim=1))
        skips = [x]
        for block in self.down:
            x = block(x) if isinstance(block, Downsample) else block(x, time, condition.tokens)
            skips.append(x)
        for block in self.middle:
            x = block(x, time, condition.tokens)
        for block in self.up:
            x = (
                block(x)
                if isinstance(block, Upsample)
                else block(torch.cat([x, skips.pop()], 1), time, condition.tokens)
            )
        return self.conv_out(F.silu(self.norm_out(x)))
