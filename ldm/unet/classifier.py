"""A classifier of noisy latents, which guides the samples of other models (arXiv 2105.05233, sections 4.1 and 4.3)."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldm.nn.blocks import NormSiLU, sinusoid, with_groups
from ldm.nn.condition import Condition
from ldm.unet import config as c
from ldm.unet.model import UNet


class AttentionPool(nn.Module):
    """The mean of all places attends to them and to itself; `out` numbers of what it finds."""

    def __init__(self, channels: int, places: int, *, heads: int, out: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = NormSiLU(channels)
        self.place = nn.Parameter(torch.randn(places + 1, channels) / channels**0.5)
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, out)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b out"]:
        x = rearrange(self.norm(x), "b c h w -> b (h w) c")
        x = torch.cat([x.mean(1, keepdim=True), x], dim=1) + self.place
        k, v = self.kv(x).chunk(2, dim=-1)
        q, k, v = (rearrange(y, "b n (heads c) -> b heads n c", heads=self.heads) for y in (self.q(x[:, :1]), k, v))
        return self.out(rearrange(F.scaled_dot_product_attention(q, k, v), "b heads 1 c -> b (heads c)"))


class Classifier(UNet):
    """The way down and the middle of a UNet for latents of `size` places, then the logits of `classes`."""

    def __init__(self, config: c.UNet, *, latent_channels: int, size: tuple[int, int], classes: int) -> None:
        super().__init__(config, latent_channels=latent_channels)
        del self.up, self.norm_out, self.conv_out
        width, places = int(config.widths[-1]), size[0] * size[1] // config.factor**2
        self.pool = AttentionPool(width, places, heads=config.heads_of(width), out=classes)
        with_groups(self, config.norm_groups)

    def forward(
        self, noisy: Float[Tensor, "b c h w"], step: Int[Tensor, " b"], condition: Condition | None = None
    ) -> Float[Tensor, "b classes"]:
        x, _ = self._halfway(noisy, self.time(sinusoid(step, self.config.channels)), condition or Condition())
        return self.pool(x)
