"""Classifier-free guidance (arXiv 2207.12598): away from the null condition, towards the wanted one."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ldm.diffusion.model import Denoise, DiffusionModel
from ldm.nn.condition import Condition


def guided(model: DiffusionModel, condition: Condition, null: Condition, scale: float) -> Denoise:
    """A denoiser whose result is null + scale (conditioned - null); scale 1 is the model itself.

    Denoised latents are mixed, which is the same as mixing noise estimates: at one step each is affine in the other.
    Both passes run as one batch.
    """
    if scale == 1:
        return model.denoiser(condition)
    both = model.denoiser(condition.with_(null))

    def denoise(noisy: Float[Tensor, "b c h w"], step: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        conditioned, unconditioned = both(torch.cat([noisy, noisy]), torch.cat([step, step])).chunk(2)
        return unconditioned + scale * (conditioned - unconditioned)

    return denoise
