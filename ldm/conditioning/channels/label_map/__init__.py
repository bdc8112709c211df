"""A label map concatenated to the noisy latent, for semantic synthesis (paper, section 4.3.2)."""

from typing import Any, Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from ldm.conditioning.part import Dropping, Part, resized


class Config(Dropping):
    kind: Literal["label_map"]
    channels: int = Field(default=3, ge=1)
    """What the classes are mapped to; 3 in the release."""


class Module(Part):
    """One channel a class, brought to the latent's size, then mapped to a few. Null: zeros, as where there is no class.

    The release halves bilinearly, again and again, which comes to a mean; and it maps last. Mapping is linear and has
    no bias: first it gives the same, and a picture's classes need not be held as so many channels.
    """

    reads = ("label_map",)

    def __init__(self, config: Config, info: dict[str, Any]) -> None:
        super().__init__()
        if "label_map" not in info["shapes"]:
            raise ValueError("condition.channels: label_map needs latents with label maps (latents: label_map: true)")
        self.width = config.channels
        self.factor = info["factor"]
        self.mapper = nn.Conv2d(len(info["label_map_classes"]), config.channels, 1, bias=False)

    def forward(
        self, rows: dict[str, Tensor], dropped: Bool[Tensor, " b"], size: tuple[int, int]
    ) -> Float[Tensor, "b c h w"]:
        weight = self.mapper.weight[:, :, 0, 0].T
        classes = rows["label_map"].long()
        known = (classes < len(weight)) & ~dropped[:, None, None]
        x = F.embedding(classes.clamp_max(len(weight) - 1), weight) * known[..., None]
        return resized(F.avg_pool2d(x.permute(0, 3, 1, 2), self.factor), size)
