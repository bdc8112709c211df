"""Captions through a transformer that is trained jointly with the UNet (paper, section 4.3 and table 17)."""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from ldm.conditioning.part import Dropping, Part
from ldm.nn.transformer import Transformer


class Config(Dropping):
    kind: Literal["text"]
    width: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    head_width: int = Field(default=64, ge=4)
    """64 at every width in the release."""
    dropout: float = Field(ge=0, lt=1)
    unused_logits: bool = False
    """Keep the release's output layer over the vocabulary, which nothing reads, for its counts and checkpoints."""


class Module(Part):
    """Caption ids to as many tokens. The null condition is the empty caption."""

    null: Tensor
    reads = ("tokens",)

    def __init__(self, config: Config, info: dict[str, Any]) -> None:
        super().__init__()
        if not info["null_tokens"]:
            raise ValueError(
                "condition.tokens: text needs a data set with captions, cached as tokens "
                "(latents: tokens: {length: 77, vocabulary_size: 8192})"
            )
        self.width = config.width
        self.transformer = Transformer(
            vocabulary_size=info["vocabulary_size"],
            length=len(info["null_tokens"]),
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            head_width=config.head_width,
            dropout=config.dropout,
            unused_logits=config.unused_logits,
        )
        self.register_buffer("null", torch.tensor(info["null_tokens"]), persistent=False)

    def forward(
        self, rows: dict[str, Tensor], dropped: Bool[Tensor, " b"], size: tuple[int, int]
    ) -> Float[Tensor, "b n width"]:
        return self.transformer(torch.where(dropped[:, None], self.null, rows["tokens"].long()))
