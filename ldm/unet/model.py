"""The time-conditional UNet with attention to tokens and concatenated channels (paper, section 3.3)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ldm.nn.blocks import (
    Downsample,
    ResBlock,
    SelfAttention2d,
    SpatialTransformer,
    Upsample,
    group_norm,
    normed,
    sinusoid,
    with_groups,
    zeroed,
)
from ldm.nn.condition import Condition
from ldm.unet import config as c


class Block(nn.ModuleList):
    """Layers one after the other, each given what it takes: blocks and layers are numbered as in released models."""

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        time: Float[Tensor, "b width"],
        tokens: Float[Tensor, "b n k"] | None,
        beside: Float[Tensor, "b c2 h w"] | None = None,
    ) -> Float[Tensor, "b out h2 w2"]:
        """`beside`: what comes over from the way down, for the first layer."""
        for layer in self:
            match layer:
                case ResBlock():
                    x, beside = layer(x, time, beside), None
                case SpatialTransformer():
                    x = layer(x, tokens)
                case _:
                    x = layer(x)
        return x


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

        def res(channels: int, out: int, resize: nn.Module | None = None) -> ResBlock:
            return ResBlock(
                channels,
                out,
                time_width=time_width,
                scale_shift=config.scale_shift_norm,
                resize=resize,
                dropout=config.dropout,
                zero=True,
            )

        def attention(channels: int) -> nn.Module:
            heads = config.heads_of(channels)
            if token_width:
                return SpatialTransformer(
                    channels, heads=heads, depth=config.transformer_depth, context_width=token_width
                )
            return SelfAttention2d(channels, heads=heads, zero=True)

        def level(channels: int, out: int, factor: int) -> list[nn.Module]:
            return [res(channels, out), *([attention(out)] if factor in config.attention_factors else [])]

        def half(channels: int) -> nn.Module:
            return res(channels, channels, nn.AvgPool2d(2)) if config.residual_updown else Downsample(channels)

        def double(channels: int) -> nn.Module:
            nearest = nn.Upsample(scale_factor=2.0, mode="nearest")
            return res(channels, channels, nearest) if config.residual_updown else Upsample(channels)

        self.time = nn.Sequential(nn.Linear(config.channels, time_width), nn.SiLU(), nn.Linear(time_width, time_width))
        self.conv_in = nn.Conv2d(latent_channels + condition_channels, first, 3, padding=1)
        self.down = nn.ModuleList()
        skips, channels = [first], first
        for i, width in enumerate(widths):
            for _ in range(config.num_res_blocks):
                self.down.append(Block(level(channels, width, 2**i)))
                channels = width
                skips.append(channels)
            if i < len(widths) - 1:
                self.down.append(Block([half(channels)]))
                skips.append(channels)
        self.middle = Block([res(channels, channels), attention(channels), res(channels, channels)])
        self.up = nn.ModuleList()
        for i, width in reversed(list(enumerate(widths))):
            for last in [False] * config.num_res_blocks + [True]:
                layers = level(channels + skips.pop(), width, 2**i)
                channels = width
                self.up.append(Block([*layers, double(channels)] if last and i > 0 else layers))
        self.norm_out = group_norm(channels)
        self.conv_out = zeroed(nn.Conv2d(channels, latent_channels, 3, padding=1))
        with_groups(self, config.norm_groups)

    def forward(
        self, noisy: Float[Tensor, "b c h w"], step: Int[Tensor, " b"], condition: Condition | None = None
    ) -> Float[Tensor, "b c h w"]:
        condition = condition or Condition()
        time = self.time(sinusoid(step, self.config.channels))
        x, skips = self._halfway(noisy, time, condition)
        for block in self.up:
            x = self._run(block, x, time, condition.tokens, skips.pop())
        return self.conv_out(normed(x, self.norm_out, silu=True)[0])

    def _halfway(
        self, noisy: Float[Tensor, "b c h w"], time: Float[Tensor, "b width"], condition: Condition
    ) -> tuple[Float[Tensor, "b c2 h2 w2"], list[Tensor]]:
        """After the way down and the middle; and what the way down leaves for the way up."""
        x = self.conv_in(noisy if condition.channels is None else torch.cat([noisy, condition.channels], dim=1))
        skips = [x]
        for block in self.down:
            x = self._run(block, x, time, condition.tokens)
            skips.append(x)
        return self._run(self.middle, x, time, condition.tokens), skips

    def _run(
        self, block: nn.Module, x: Tensor, time: Tensor, tokens: Tensor | None, beside: Tensor | None = None
    ) -> Tensor:
        if self.config.checkpointing and torch.is_grad_enabled():
            # With dropout the generators' states are kept too: it falls on the same places the second time.
            kept = self.config.dropout > 0
            return checkpoint(block, x, time, tokens, beside, use_reentrant=False, preserve_rng_state=kept)
        return block(x, time, tokens, beside)
