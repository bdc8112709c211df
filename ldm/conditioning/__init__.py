"""Conditioners: what a data set knows about a picture, as tokens and channels for the UNet. One folder a kind.

A kind is imported only when a model names it, so that a change to one leaves the models of the others as they are.
"""

from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Float
from pydantic import SerializeAsAny, field_validator
from torch import Tensor, nn

from ldm.conditioning.part import Part
from ldm.config import Section, nested
from ldm.nn.condition import Condition


class Conditions(Section):
    """What a model is told: tokens, channels, both or neither. Each part's section has its `kind`."""

    tokens: SerializeAsAny[Section]
    channels: SerializeAsAny[Section]

    @field_validator("tokens", mode="before")
    @classmethod
    def _tokens_of_their_kind(cls, values: Any) -> Section:
        return nested(values, tokens_module(_kind(values)).Config)

    @field_validator("channels", mode="before")
    @classmethod
    def _channels_of_their_kind(cls, values: Any) -> Section:
        return nested(values, channels_module(_kind(values)).Config)


def _kind(values: Any) -> Any:
    return values.get("kind") if isinstance(values, dict) else getattr(values, "kind", None)


def tokens_module(kind: Any) -> ModuleType:
    """`Config`, the section of this kind of tokens, and `Module`, which makes them."""
    match kind:
        case "none":
            from ldm.conditioning.tokens import none

            return none
        case "label":
            from ldm.conditioning.tokens import label

            return label
        case "text":
            from ldm.conditioning.tokens import text

            return text
        case "layout":
            from ldm.conditioning.tokens import layout

            return layout
        case "clip_text":
            from ldm.conditioning.tokens import clip_text

            return clip_text
        case "clip_image":
            from ldm.conditioning.tokens import clip_image

            return clip_image
    raise ValueError(f"tokens can be of kind none, label, text, layout, clip_text, clip_image, not {kind!r}")


def channels_module(kind: Any) -> ModuleType:
    """`Config`, the section of this kind of channels, and `Module`, which makes them."""
    match kind:
        case "none":
            from ldm.conditioning.channels import none

            return none
        case "low_resolution":
            from ldm.conditioning.channels import low_resolution

            return low_resolution
        case "label_map":
            from ldm.conditioning.channels import label_map

            return label_map
        case "mask":
            from ldm.conditioning.channels import mask

            return mask
        case "grey":
            from ldm.conditioning.channels import grey

            return grey
    raise ValueError(f"channels can be of kind none, low_resolution, label_map, mask, grey, not {kind!r}")


class Conditioner(nn.Module):
    """Both parts of a condition."""

    def __init__(self, tokens: Part, channels: Part, drops: tuple[float, float]) -> None:
        super().__init__()
        self.tokens = tokens
        self.channels = channels
        self.drops = drops
        """How often the tokens and the channels are dropped in training."""

    @property
    def token_width(self) -> int:
        return self.tokens.width

    @property
    def channels_width(self) -> int:
        return self.channels.width

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of its rows that it needs."""
        return (*self.tokens.reads, *self.channels.reads)

    def forward(self, rows: dict[str, Tensor], dropped: Bool[Tensor, "b 2"], size: tuple[int, int]) -> Condition:
        """The condition of each row; null where its tokens (`dropped[:, 0]`) or channels (`dropped[:, 1]`) are dropped.

        Channels come at the latent's `size`.
        """
        tokens, channels = dropped.unbind(1)
        return Condition(tokens=self.tokens(rows, tokens, size), channels=self.channels(rows, channels, size))


def build(config: Conditions, info: dict[str, Any]) -> Conditioner:
    """The conditioner for latents described by `info` (their latents.json).

    Raises ValueError where the latents lack what it needs.
    """
    tokens, channels = config.tokens, config.channels
    return Conditioner(
        tokens_module(_kind(tokens)).Module(tokens, info),
        channels_module(_kind(channels)).Module(channels, info),
        (getattr(tokens, "drop", 0.0), getattr(channels, "drop", 0.0)),
    )


def nothing_dropped(batch: int, device: torch.device) -> Bool[Tensor, "b 2"]:
    return torch.zeros(batch, 2, dtype=torch.bool, device=device)


def null_dropped(conditioner: Conditioner, batch: int, device: torch.device) -> Bool[Tensor, "b 2"]:
    """What guidance leads away from: those parts dropped whose null condition the model was trained on."""
    return torch.tensor([drop > 0 for drop in conditioner.drops], device=device).expand(batch, 2)


def draw_dropped(conditioner: Conditioner, chance: Float[Tensor, "b 2"]) -> Bool[Tensor, "b 2"]:
    """What training drops, from uniform numbers in [0, 1)."""
    return torch.stack([part < drop for part, drop in zip(chance.unbind(1), conditioner.drops, strict=True)], dim=1)
