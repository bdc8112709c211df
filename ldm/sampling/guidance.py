"""Classifier-free guidance (arXiv 2207.12598): away from the null condition, towards the wanted one."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ldm.diffusion.model import Denoise
from ldm.nn.condition import Condition


def guided(denoiser: Callable[[Condition], Denoise], condition: Condition, null: Condition, scale: float) -> Denoise:
    """A denoiser whose result is null + scale (conditioned - null); scale 1 is the model alone.

    Denoised latents are mixed, which is the same as mixing noise estimates: at one step each is affine in the other.
    Both passes run as one batch.
    """
    if scale == 1:
        return denoiser(condition)
    both = denoiser(condition.with_(null))

    def denoise(noisy: Float[Tensor, "b c h w"], step: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        conditioned, unconditioned = both(torch.cat([noisy, noisy]), torch.cat([step, step])).chunk(2)
        return unconditioned + scale * (conditioned - unconditioned)

    return denoise
