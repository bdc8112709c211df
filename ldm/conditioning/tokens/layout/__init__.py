"""Boxes through a transformer that is trained jointly with the UNet (paper, section 4.3.1 and table 17)."""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from ldm.conditioning.part import Dropping, Part
from ldm.nn.transformer import Transformer


class Config(Dropping):
    kind: Literal["layout"]
    width: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    head_width: int = Field(default=64, ge=4)
    """64 in the release."""
    dropout: float = Field(ge=0, lt=1)
    unused_logits: bool = False
    """Keep the release's output layer over the vocabulary, which nothing reads, for its counts and checkpoints."""


class Module(Part):
    """Layout ids (`ldm.data.layouts`) to as many tokens. The null condition is the layout of nothing but empty ids."""

    reads = ("layout",)

    def __init__(self, config: Config, info: dict[str, Any]) -> None:
        super().__init__()
        if "layout" not in info["shapes"]:
            raise ValueError(
                "condition.tokens: layout needs latents with boxes "
                "(latents: layout: {boxes: 30, vocabulary_size: 8192})"
            )
        self.width = config.width
        self.empty = info["layout"]["vocabulary_size"] - 1
        self.transformer = Transformer(
            vocabulary_size=info["layout"]["vocabulary_size"],
            length=info["shapes"]["layout"][0],
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            head_width=config.head_width,
            dropout=config.dropout,
            unused_logits=config.unused_logits,
        )

    def forward(
        self, rows: dict[str, Tensor], dropped: Bool[Tensor, " b"], size: tuple[int, int]
    ) -> Float[Tensor, "b n width"]:
        return self.transformer(torch.where(dropped[:, None], self.empty, rows["layout"].long()))
