"""Captions through a transformer that is trained jointly with the UNet (paper, section 4.3 and table 17)."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from ldm.conditioning.part import Dropping, Part
from ldm.nn.blocks import Attention


class Config(Dropping):
    kind: Literal["text"]
    width: int = Field(ge=8)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    head_width: int = Field(default=64, ge=4)
    """64 at every width in the release."""
    dropout: float = Field(ge=0, lt=1)


class Layer(nn.Module):
    """Attention, then a feed-forward of four times the width, each after a norm."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads=config.heads, head_width=config.head_width, dropout=config.dropout)
        self.into, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        x = x + self.attention(self.norm1(x))
        return x + self.out(self.dropout(F.gelu(self.into(self.norm2(x)))))


class Module(Part):
    """Token ids to as many tokens. As released, padding is not masked; the null condition is the empty caption."""

    null: Tensor

    def __init__(self, config: Config, info: dict[str, Any]) -> None:
        super().__init__()
        if not info["null_tokens"]:
            raise ValueError("condition.tokens: text needs a data set with captions, and this one has none")
        self.width = config.width
        self.embedding = nn.Embedding(info["vocabulary_size"], config.width)
        self.position = nn.Embedding(len(info["null_tokens"]), config.width)
        # Words keep unit variance: at the release's .02 the first outputs of the layers drown which word it was, and a
        # short training does not come to use them (docs/log.md).
        nn.init.normal_(self.position.weight, std=0.02)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.register_buffer("null", torch.tensor(info["null_tokens"]), persistent=False)

    def forward(
        self, rows: dict[str, Tensor], dropped: Bool[Tensor, " b"], size: tuple[int, int]
    ) -> Float[Tensor, "b n width"]:
        tokens = torch.where(dropped[:, None], self.null, rows["tokens"].long())
        x = self.embedding(tokens) + self.position.weight
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)
