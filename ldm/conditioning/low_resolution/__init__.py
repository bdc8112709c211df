"""A low-resolution image concatenated to the noisy latent, for super-resolution (paper, section 4.4)."""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from ldm.conditioning import Conditioner
from ldm.config import Section
from ldm.nn.condition import Condition


class Config(Section):
    """Nothing to choose."""


class LowResolution(Conditioner):
    """The image as it is where it has the latent's size, else enlarged to it (bicubic). Null: grey, which is zero."""

    token_width = 0
    channels = 3

    def __init__(self, config: Config, info: dict[str, Any]) -> None:
        super().__init__()
        if "low_resolution" not in info["shapes"]:
            raise ValueError(
                "condition: low_resolution needs latents with low-resolution pictures (latents: low_resolution: 4)"
            )

    def forward(self, rows: dict[str, Tensor], dropped: Bool[Tensor, " b"], size: tuple[int, int]) -> Condition:
        image = rows["low_resolution"].float() / 127.5 - 1
        if image.shape[-2:] != size:
            image = F.interpolate(image, size=size, mode="bicubic")
        return Condition(channels=image * ~dropped[:, None, None, None])
