"""The transformer over token ids that captions and layouts share (paper, section 4.3 and table 17)."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldm.nn.blocks import Attention


class TransformerLayer(nn.Module):
    """Attention, then a feed-forward of four times the width, each after a norm."""

    def __init__(self, width: int, *, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads=heads, head_width=head_width, dropout=dropout)
        self.into, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        x = x + self.attention(self.norm1(x))
        return x + self.out(self.dropout(F.gelu(self.into(self.norm2(x)))))


class Transformer(nn.Module):
    """Token ids to as many tokens of `width`. As released, padding is not masked.

    `unused_logits`: with the output layer over the vocabulary that the released transformers carry and nothing reads.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        length: int,
        width: int,
        layers: int,
        heads: int,
        head_width: int,
        dropout: float,
        unused_logits: bool,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.position = nn.Embedding(length, width)
        # Words keep unit variance: at the release's .02 the first outputs of the layers drown which word it was, and a
        # short training does not come to use them (docs/log.md).
        nn.init.normal_(self.position.weight, std=0.02)
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads=heads, head_width=head_width, dropout=dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        if unused_logits:
            self.logits = nn.Linear(width, vocabulary_size).requires_grad_(False)

    def forward(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n width"]:
        x = self.embedding(ids) + self.position.weight
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)
