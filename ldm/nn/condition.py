"""What a UNet is told besides the noisy latent and the step."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Tokens are attended to, channels are concatenated to the noisy latent; either may be absent."""

    tokens: Float[Tensor, "b n width"] | None = None
    channels: Float[Tensor, "b c h w"] | None = None

    def with_(self, other: "Condition") -> "Condition":
        """Both, one after the other along the batch: how guidance evaluates two conditions in one pass."""
        return Condition(tokens=_cat(self.tokens, other.tokens), channels=_cat(self.channels, other.channels))


def _cat(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return None if a is None or b is None else torch.cat([a, b])
