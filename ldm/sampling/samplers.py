"""Samplers: pure functions of a denoiser, noise and a schedule.

Each yields the latent it expects after every step, so that whoever iterates can show it; the last one is the sample.
`noise(i)` gives the noise of the i-th step, for samplers that add some.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.model import Denoise
from ldm.diffusion.schedule import Schedule

Latent = Float[Tensor, "b c h w"]
StepNoise = Callable[[int], Latent]


def time_steps(length: int, num_steps: int) -> list[int]:
    """`num_steps` different steps of 0..length - 1, falling, evenly spaced, from the schedule's last one on."""
    if not 1 <= num_steps <= length:
        raise ValueError(f"num_steps {num_steps} must be from 1 to the schedule's {length} steps")
    return [length * (i + 1) // num_steps - 1 for i in reversed(range(num_steps))]


def ddim(
    denoise: Denoise, start: Latent, schedule: Schedule, num_steps: int, eta: float, noise: StepNoise
) -> Iterator[Latent]:
    """DDIM from pure noise `start` (arXiv 2010.02502, eq. 12 and 16)."""
    steps = time_steps(len(schedule), num_steps)
    noisy = start
    for i, step in enumerate(steps):
        alpha, sigma = schedule.alpha[step], schedule.sigma[step]
        latent = denoise(noisy, torch.full((len(start),), step, device=start.device))
        yield latent
        if i == len(steps) - 1:
            return
        alpha_next, sigma_next = schedule.alpha[steps[i + 1]], schedule.sigma[steps[i + 1]]
        direction = (noisy - alpha * latent) / sigma
        added = eta * (sigma_next / sigma) * (1 - (alpha / alpha_next).square()).sqrt()
        noisy = alpha_next * latent + (sigma_next.square() - added.square()).clamp_min(0).sqrt() * direction
        if eta:
            noisy = noisy + added * noise(i)


def ddpm(denoise: Denoise, start: Latent, schedule: Schedule, noise: StepNoise) -> Iterator[Latent]:
    """Ancestral sampling over all steps, with the posterior's mean and variance (arXiv 2006.11239, eq. 6 and 7)."""
    noisy = start
    for i, step in enumerate(reversed(range(len(schedule)))):
        latent = denoise(noisy, torch.full((len(start),), step, device=start.device))
        yield latent
        if step == 0:
            return
        alpha_bar, alpha_bar_next = schedule.alpha[step].square(), schedule.alpha[step - 1].square()
        alpha = alpha_bar / alpha_bar_next
        beta = 1 - alpha
        mean = (alpha_bar_next.sqrt() * beta * latent + alpha.sqrt() * (1 - alpha_bar_next) * noisy) / (1 - alpha_bar)
        variance = beta * (1 - alpha_bar_next) / (1 - alpha_bar)
        noisy = mean + variance.sqrt() * noise(i)
