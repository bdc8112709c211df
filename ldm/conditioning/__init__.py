"""Conditioners: what a data set knows about a picture, as tokens or channels for the UNet. One folder a kind.

A kind is imported only when a model names it, so that a change to one leaves the models of the others as they are.
"""

from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ldm.config import Section
from ldm.nn.condition import Condition

Kind = Literal["none", "label", "text", "low_resolution"]


class Conditioner(nn.Module):
    """A module with the widths that the UNet must expect."""

    token_width: int
    channels: int

    def forward(self, rows: dict[str, Tensor], dropped: Bool[Tensor, " b"], size: tuple[int, int]) -> Condition:
        """The condition of each row, or the null condition where it is `dropped`; channels at the latent's `size`."""
        raise TypeError(f"{type(self).__name__} makes no condition")


def config_class(kind: Kind) -> type[Section]:
    """The section that `conditioner` holds for this kind."""
    match kind:
        case "none":
            from ldm.conditioning.none import Config as NoneConfig

            return NoneConfig
        case "label":
            from ldm.conditioning.label import Config as LabelConfig

            return LabelConfig
        case "text":
            from ldm.conditioning.text import Config as TextConfig

            return TextConfig
        case "low_resolution":
            from ldm.conditioning.low_resolution import Config as LowResolutionConfig

            return LowResolutionConfig


def build(kind: Kind, config: Any, info: dict[str, Any]) -> Conditioner:
    """The conditioner for latents described by `info` (their latents.json); `config` is a `config_class(kind)`.

    Raises ValueError where the latents lack what it needs.
    """
    match kind:
        case "none":
            from ldm.conditioning.none import Unconditional

            return Unconditional()
        case "label":
            from ldm.conditioning.label import Label

            return Label(config, info)
        case "text":
            from ldm.conditioning.text import Text

            return Text(config, info)
        case "low_resolution":
            from ldm.conditioning.low_resolution import LowResolution

            return LowResolution(config, info)


def nothing_dropped(batch: int, device: torch.device) -> Bool[Tensor, " b"]:
    return torch.zeros(batch, dtype=torch.bool, device=device)
