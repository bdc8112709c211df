"""Filling holes: with what is known held in the latent while sampling, or pasted back into the picture afterwards."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ldm.diffusion.model import Denoise


def known_kept(denoise: Denoise, known: Float[Tensor, "b c h w"], hole: Bool[Tensor, "b 1 h w"]) -> Denoise:
    """A denoiser that expects the `known` latent outside the `hole`, whatever it sees there.

    That is all that inpainting with a model without a mask takes: a sampler then keeps alpha known + sigma noise there
    by itself, as RePaint (arXiv 2201.09865) writes it into each step, and the sample is `known` there.
    """

    def held(noisy: Float[Tensor, "b c h w"], step: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        return torch.where(hole, denoise(noisy, step), known)

    return held


def latent_hole(mask: UInt8[Tensor, "b H W"], factor: int) -> Bool[Tensor, "b 1 h w"]:
    """Places of the latent that see anything of the hole (mask 1)."""
    return F.max_pool2d(mask[:, None].float(), factor) > 0


def pasted(
    sample: UInt8[Tensor, "b 3 H W"], picture: UInt8[Tensor, "b 3 H W"], mask: UInt8[Tensor, "b H W"]
) -> UInt8[Tensor, "b 3 H W"]:
    """The sample in the hole (mask 1) and the picture itself, to the byte, elsewhere; as LaMa evaluates."""
    return torch.where(mask[:, None] > 0, sample, picture)
