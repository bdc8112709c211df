"""A class as one token (paper, section 4.3 and appendix E)."""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from ldm.conditioning.part import Dropping, Part


class Config(Dropping):
    kind: Literal["label"]
    width: int = Field(ge=1)
    """Of the embedding, which is the token."""


class Module(Part):
    """An embedding of the class; the entry after the last class is the null condition."""

    reads = ("label",)

    def __init__(self, config: Config, info: dict[str, Any]) -> None:
        super().__init__()
        if not info["classes"]:
            raise ValueError("condition.tokens: label needs a data set with classes, and this one has none")
        self.width = config.width
        self.null = len(info["classes"])
        self.embedding = nn.Embedding(self.null + 1, config.width)

    def forward(
        self, rows: dict[str, Tensor], dropped: Bool[Tensor, " b"], size: tuple[int, int]
    ) -> Float[Tensor, "b 1 width"]:
        label = rows["label"]
        # A picture without a label (-1) is trained on the null condition.
        label = torch.where(dropped | (label < 0), self.null, label)
        return self.embedding(label)[:, None]
