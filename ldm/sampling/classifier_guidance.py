"""Classifier guidance (arXiv 2105.05233): towards what a classifier of noisy latents takes for the wanted class."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ldm.diffusion.model import Denoise, DiffusionModel
from ldm.diffusion.schedule import Schedule

Likelihood = Callable[[Float[Tensor, "b c h w"], Int[Tensor, " b"]], Float[Tensor, " b"]]
"""From a noisy latent and its step, the logarithm of the probability of what is wanted."""


def classifier_guided(denoise: Denoise, schedule: Schedule, likelihood: Likelihood, scale: float) -> Denoise:
    """`denoise` with -scale sigma grad(likelihood) added to its noise estimate (algorithm 2).

    On the denoised latent, which is what is returned, that is scale sigma^2 / alpha grad(likelihood); at alpha 0, where
    no latent is in the noisy one, nothing. With scale 1 and both exact it is the denoiser of the wanted class.
    """

    def guided(noisy: Float[Tensor, "b c h w"], step: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        with torch.enable_grad():
            seen = noisy.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(likelihood(seen, step).sum(), seen)
        alpha, sigma = schedule.at(step)
        strength = torch.where(alpha > 0, scale * sigma.square() / alpha, 0.0)
        return denoise(noisy, step) + strength * gradient

    return guided


def label_likelihood(classifier: DiffusionModel, label: Int[Tensor, " b"]) -> Likelihood:
    """Of the row's label; a row without one (-1) is not guided."""
    known, index = label >= 0, label.clamp(min=0)[:, None]

    def likelihood(noisy: Float[Tensor, "b c h w"], step: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        logarithms = classifier.unet(noisy, step).log_softmax(1)
        return torch.where(known, logarithms.gather(1, index)[:, 0], 0.0)

    return likelihood
