"""Post-hoc image guiding (paper, appendix C): a sample is drawn towards a guide that the model was never told of."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ldm.diffusion.model import Denoise
from ldm.diffusion.schedule import Schedule

Pictures = Float[Tensor, "b 3 H W"]
"""Pixels in [-1, 1]."""
Decode = Callable[[Float[Tensor, "b c h w"]], Pictures]
"""From a latent to its picture, differentiable."""
Distance = Callable[[Pictures], Float[Tensor, " b"]]
"""How far each picture is from its guide."""


def image_guided(denoise: Denoise, schedule: Schedule, decode: Decode, distance: Distance, scale: float) -> Denoise:
    """`denoise` with scale sigma grad(distance of the decoded latent) added to its noise estimate.

    The gradient is taken at the noisy latent, through denoiser and decoder. On the denoised latent, which is what is
    returned, it is -scale sigma^2 / alpha grad(distance); at alpha 0, where no latent is in the noisy one, nothing.
    """

    def guided(noisy: Float[Tensor, "b c h w"], step: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        with torch.enable_grad():
            noisy = noisy.detach().requires_grad_()
            latent = denoise(noisy, step)
            (gradient,) = torch.autograd.grad(distance(decode(latent)).sum(), noisy)
        alpha, sigma = schedule.at(step)
        strength = torch.where(alpha > 0, scale * sigma.square() / alpha, 0.0)
        return latent.detach() - strength * gradient

    return guided


def l2(picture: Pictures, guide: Pictures) -> Float[Tensor, " b"]:
    """Half the sum of squared differences: the negative log-likelihood of a guide with unit variance."""
    return 0.5 * (picture - guide).square().flatten(1).sum(1)


def reduced(picture: Pictures, size: tuple[int, int]) -> Float[Tensor, "b 3 h w"]:
    """At a smaller `size`, by antialiased bicubic (a = -0.5), as `ldm.data.pictures.resize` but not rounded.

    Two matrix products, for the backward pass of torch's own is not deterministic on a GPU.
    """
    down, across = (_bicubic(n, m).to(picture) for n, m in zip(picture.shape[2:], size, strict=True))
    return down @ picture @ across.T


def _bicubic(length: int, smaller: int) -> Float[Tensor, "smaller length"]:
    eye = torch.eye(length)[None, None]
    return F.interpolate(eye, size=(smaller, length), mode="bicubic", antialias=True)[0, 0]


def grey(picture: Pictures) -> Pictures:
    """Luma (ITU-R 601, as Pillow's mode L) in all three channels."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=picture.device)[:, None, None]
    return (picture * weights).sum(1, keepdim=True).expand_as(picture)


def masked(picture: Pictures, hole: Bool[Tensor, "b 1 H W"]) -> Pictures:
    """Grey, which is 0, in the hole."""
    return picture.masked_fill(hole, 0.0)
