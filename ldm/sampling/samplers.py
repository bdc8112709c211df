"""Samplers: pure functions of a denoiser, a noisy latent to start from and a schedule.

Each yields the latent it expects, once a step, so that whoever iterates can show it; the last one is the sample.
`steps` are falling steps of the schedule, and `start` is noisy as at the first of them. The last update leads to no
noise, or, where `end` names a step of the schedule, to the noise of that one. `noise(i)` gives the noise of the i-th
step, for samplers that add some.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.diffusion.model import Denoise, noise_of
from ldm.diffusion.schedule import Schedule

Latent = Float[Tensor, "b c h w"]
StepNoise = Callable[[int], Latent]


def ddim(
    denoise: Denoise,
    start: Latent,
    schedule: Schedule,
    steps: Sequence[int],
    eta: float,
    noise: StepNoise,
    end: int | None = None,
) -> Iterator[Latent]:
    """DDIM (arXiv 2010.02502, eq. 12 and 16); with eta 1 and every step it is DDPM."""
    noisy = start
    for i, (step, after) in enumerate(_pairs(steps, end)):
        alpha, sigma = schedule.alpha[step], schedule.sigma[step]
        latent = denoise(noisy, _at(step, noisy))
        if after is None:
            yield latent
            return
        alpha_next, sigma_next = schedule.alpha[after], schedule.sigma[after]
        direction = noise_of(noisy, latent, alpha, sigma)
        added = eta * (sigma_next / sigma) * (1 - (alpha / alpha_next).square()).sqrt()
        noisy = alpha_next * latent + (sigma_next.square() - added.square()).clamp_min(0).sqrt() * direction
        if eta:
            noisy = noisy + added * noise(i)
        yield noisy if i == len(steps) - 1 else latent


def ddpm(
    denoise: Denoise, start: Latent, schedule: Schedule, steps: Sequence[int], noise: StepNoise
) -> Iterator[Latent]:
    """Ancestral sampling with the posterior's mean and variance (arXiv 2006.11239, eq. 6 and 7), step by step to 0."""
    noisy = start
    for i, (step, after) in enumerate(_pairs(steps, None)):
        latent = denoise(noisy, _at(step, noisy))
        yield latent
        if after is None:
            return
        alpha_bar, alpha_bar_next = schedule.alpha[step].square(), schedule.alpha[after].square()
        alpha = alpha_bar / alpha_bar_next
        beta = 1 - alpha
        mean = (alpha_bar_next.sqrt() * beta * latent + alpha.sqrt() * (1 - alpha_bar_next) * noisy) / (1 - alpha_bar)
        variance = beta * (1 - alpha_bar_next) / (1 - alpha_bar)
        noisy = mean + variance.sqrt() * noise(i)


ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""What the newest noise estimates, the last one first, weigh in the next step."""


def plms(
    denoise: Denoise, start: Latent, schedule: Schedule, steps: Sequence[int], end: int | None = None
) -> Iterator[Latent]:
    """Pseudo linear multistep (arXiv 2202.09778), as released: one pseudo improved Euler step, then 2nd to 4th order.

    Where the first step has no latent in it at all (zero terminal SNR) it is DDIM's: there the noise is known.
    """
    noisy, estimates = start, list[Latent]()
    for step, after in _pairs(steps, end):
        alpha, sigma = schedule.alpha[step], schedule.sigma[step]
        latent = denoise(noisy, _at(step, noisy))
        estimates = [noise_of(noisy, latent, alpha, sigma), *estimates[:3]]
        weights = ADAMS_BASHFORTH[len(estimates) - 1]
        direction = sum((w * e for w, e in zip(weights, estimates, strict=True)), torch.zeros_like(noisy))
        if alpha > 0 and len(estimates) == 1 and len(steps) > 1:
            following, alpha_next, sigma_next = steps[1], schedule.alpha[steps[1]], schedule.sigma[steps[1]]
            ahead = alpha_next * latent + sigma_next * direction
            there = noise_of(ahead, denoise(ahead, _at(following, ahead)), alpha_next, sigma_next)
            direction = (direction + there) / 2
        if alpha > 0:
            latent = (noisy - sigma * direction) / alpha
        if after is None:
            yield latent
            return
        noisy = schedule.alpha[after] * latent + schedule.sigma[after] * direction
        yield noisy if step == steps[-1] else latent


def dpm_solver(denoise: Denoise, start: Latent, schedule: Schedule, steps: Sequence[int]) -> Iterator[Latent]:
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2), on the latent rather than on the noise.

    The first step, which has no step before it, and the last, which leads to no noise, are of first order.
    """
    noisy = start
    earlier: tuple[Latent, Tensor] | None = None
    for step, after in _pairs(steps, None):
        latent = denoise(noisy, _at(step, noisy))
        yield latent
        if after is None:
            return
        alpha, sigma = schedule.alpha[step], schedule.sigma[step]
        alpha_next, sigma_next = schedule.alpha[after], schedule.sigma[after]
        length = (alpha_next / sigma_next).log() - (alpha / sigma).log()  # h in the paper; infinite from alpha 0
        towards = latent
        if earlier is not None:
            before, length_before = earlier
            towards = latent + length / (2 * length_before) * (latent - before)  # 1 / (2 r) = h / (2 h before)
        noisy = sigma_next / sigma * noisy + (alpha_next - alpha * sigma_next / sigma) * towards
        earlier = latent, length


def _pairs(steps: Sequence[int], end: int | None) -> list[tuple[int, int | None]]:
    """Each step and the one that its update leads to."""
    return list(zip(steps, [*steps[1:], end], strict=True))


def _at(step: int, noisy: Latent) -> Tensor:
    return torch.full((len(noisy),), step, device=noisy.device)
