"""A class as one token (paper, section 4.3 and appendix E)."""

from typing import Any

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor, nn

from ldm.conditioning import Conditioner
from ldm.config import Section
from ldm.nn.condition import Condition


class Config(Section):
    width: int = Field(ge=1)
    """Of the embedding, which is the token."""


class Label(Conditioner):
    """An embedding of the class; the entry after the last class is the null condition."""

    channels = 0

    def __init__(self, config: Config, info: dict[str, Any]) -> None:
        super().__init__()
        if not info["classes"]:
            raise ValueError("condition: label needs a data set with classes, and this one has none")
        self.token_width = config.width
        self.null = len(info["classes"])
        self.embedding = nn.Embedding(self.null + 1, config.width)

    def forward(self, rows: dict[str, Tensor], dropped: Bool[Tensor, " b"], size: tuple[int, int]) -> Condition:
        label = rows["label"]
        # A picture without a label (-1) is trained on the null condition.
        label = torch.where(dropped | (label < 0), self.null, label)
        return Condition(tokens=self.embedding(label)[:, None])
