"""A small sampler for looking at a model while it trains, so that training does not depend on the sampling room."""

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.model import Denoise, noise_of
from ldm.diffusion.schedule import Schedule


@torch.no_grad()
def preview(denoise: Denoise, noise: Float[Tensor, "b c h w"], schedule: Schedule, num_steps: int = 20) -> Tensor:
    """Latents by deterministic DDIM (arXiv 2010.02502, eq. 12 with eta 0) over evenly spaced steps."""
    num_steps = min(num_steps, len(schedule))
    steps = [len(schedule) * (i + 1) // num_steps - 1 for i in range(num_steps)]
    noisy = noise
    for i in reversed(range(len(steps))):
        alpha, sigma = schedule.alpha[steps[i]], schedule.sigma[steps[i]]
        latent = denoise(noisy, torch.full((len(noise),), steps[i], device=noise.device))
        if i == 0:
            return latent
        direction = noise_of(noisy, latent, alpha, sigma)
        noisy = schedule.alpha[steps[i - 1]] * latent + schedule.sigma[steps[i - 1]] * direction
    raise AssertionError("a schedule has at least one step")
