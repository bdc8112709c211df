"""A picture with a hole, as latent and mask, concatenated to the noisy latent, for inpainting (paper, section 4.5)."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ldm.conditioning.part import Dropping, Part, resized


class Config(Dropping):
    kind: Literal["mask"]


class Module(Part):
    """The latent of the picture whose hole is -1, then the mask: 1 in the hole, -1 elsewhere.

    Null: everything is hidden, by a mask of ones and a latent of zeros.
    """

    reads = ("mask", "masked")

    def __init__(self, config: Config, info: dict[str, Any]) -> None:
        super().__init__()
        if "mask" not in info["shapes"]:
            raise ValueError("condition.channels: mask needs latents with masks (latents: mask: {style: training})")
        self.width = info["shapes"]["masked"][0] + 1

    def forward(
        self, rows: dict[str, Tensor], dropped: Bool[Tensor, " b"], size: tuple[int, int]
    ) -> Float[Tensor, "b c h w"]:
        hidden = dropped[:, None, None, None]
        masked = torch.where(hidden, 0.0, resized(rows["masked"], size))
        mask = F.interpolate(rows["mask"][:, None].float(), size=size, mode="nearest") * 2 - 1
        return torch.cat([masked, torch.where(hidden, 1.0, mask)], dim=1)
