"""A low-resolution image concatenated to the noisy latent, for super-resolution (paper, section 4.4)."""

from typing import Any, Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ldm.conditioning.part import Dropping, Part


class Config(Dropping):
    kind: Literal["low_resolution"]


class Module(Part):
    """The image as it is where it has the latent's size, else brought to it (bicubic, as Pillow enlarges and reduces).

    Null: grey, which is zero.
    """

    width = 3
    reads = ("low_resolution",)

    def __init__(self, config: Config, info: dict[str, Any]) -> None:
        super().__init__()
        if "low_resolution" not in info["shapes"]:
            raise ValueError(
                "condition.channels: low_resolution needs latents with low-resolution pictures "
                "(latents: low_resolution: {factor: 4, degradation: bicubic})"
            )

    def forward(
        self, rows: dict[str, Tensor], dropped: Bool[Tensor, " b"], size: tuple[int, int]
    ) -> Float[Tensor, "b 3 h w"]:
        image = rows["low_resolution"].float() / 127.5 - 1
        if image.shape[-2:] != size:
            image = F.interpolate(image, size=size, mode="bicubic", antialias=True)
        return image * ~dropped[:, None, None, None]
