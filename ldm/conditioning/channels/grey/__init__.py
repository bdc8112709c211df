"""The latent of the picture without its colours, concatenated to the noisy latent, for colourisation."""

from typing import Any, Literal

from jaxtyping import Bool, Float
from torch import Tensor

from ldm.conditioning.part import Dropping, Part, resized


class Config(Dropping):
    kind: Literal["grey"]


class Module(Part):
    """The grey picture's latent. Null: zeros."""

    reads = ("grey",)

    def __init__(self, config: Config, info: dict[str, Any]) -> None:
        super().__init__()
        if "grey" not in info["shapes"]:
            raise ValueError("condition.channels: grey needs latents of grey pictures (latents: grey: true)")
        self.width = info["shapes"]["grey"][0]

    def forward(
        self, rows: dict[str, Tensor], dropped: Bool[Tensor, " b"], size: tuple[int, int]
    ) -> Float[Tensor, "b c h w"]:
        return resized(rows["grey"], size) * ~dropped[:, None, None, None]
