"""What encodes layouts and label maps in the release, written anew from its modules: same names, same numbers.

It shares nothing with `ldm`: heads are separate slices, label maps are one channel a class and halved one by one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        for name in ("to_q", "to_k", "to_v"):
            setattr(self, name, nn.Linear(width, heads * head_width, bias=False))
        self.to_out = nn.Linear(heads * head_width, width)

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for head in range(self.heads):
            part = slice(head * self.head_width, (head + 1) * self.head_width)
            q, k, v = (x @ getattr(self, f"to_{name}").weight[part].T for name in "qkv")
            out.append((q @ k.mT / self.head_width**0.5).softmax(dim=-1) @ v)
        return self.to_out(torch.cat(out, dim=-1))


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        into = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU())
        self.net = nn.Sequential(into, nn.Dropout(0.0), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Named(nn.Module):
    """A module that is only a place for others."""


class TransformerEmbedder(nn.Module):
    """`cond_stage_model` of layouts: norms before each layer, learned positions, no mask over padding."""

    def __init__(self, *, vocabulary: int, length: int, width: int, layers: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.transformer = top = Named()
        top.token_emb = nn.Embedding(vocabulary, width)
        top.pos_emb = Named()
        top.pos_emb.emb = nn.Embedding(length, width)
        top.attn_layers = Named()
        pairs = [(Attention(width, heads, head_width), FeedForward(width)) for _ in range(layers)]
        top.attn_layers.layers = nn.ModuleList(
            nn.ModuleList([nn.LayerNorm(width), layer]) for pair in pairs for layer in pair
        )
        top.norm = nn.LayerNorm(width)
        top.to_logits = nn.Linear(width, vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        top = self.transformer
        x = top.token_emb(ids) + top.pos_emb.emb(torch.arange(ids.shape[1]))[None]
        for norm, layer in top.attn_layers.layers:
            x = layer(norm(x)) + x
        return top.norm(x)


class SpatialRescaler(nn.Module):
    """`cond_stage_model` of label maps: halved `stages` times, then mapped to few channels."""

    def __init__(self, stages: int, classes: int, channels: int) -> None:
        super().__init__()
        self.stages = stages
        self.channel_mapper = nn.Conv2d(classes, channels, 1, bias=False)

    def forward(self, one_hot: Tensor) -> Tensor:
        for _ in range(self.stages):
            one_hot = F.interpolate(one_hot, scale_factor=0.5, mode="bilinear")
        return self.channel_mapper(one_hot)
