"""Samplers against what is known analytically, and against each other."""

import pytest
import torch

from ldm.diffusion import config as c
from ldm.diffusion.schedule import Schedule
from ldm.nn.condition import Condition
from ldm.sampling.guidance import guided
from ldm.sampling.samplers import ddim, ddpm, time_steps

SCHEDULE = Schedule.from_config(c.Schedule(steps=1000, beta_start=0.0015, beta_end=0.0195))
MEAN, STD = 0.7, 0.4


def gaussian(noisy, step):
    """The exact denoiser of data that is N(MEAN, STD^2): the posterior mean of the latent given the noisy one."""
    alpha, sigma = SCHEDULE.at(step)
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    return MEAN + gain * (noisy - alpha * MEAN)


def noises(seed):
    def noise(i):
        sample = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed + i))
        return (sample - sample.mean()) / sample.std()  # no sampling error in what the moments are compared by

    return noise


SHAPE = (4000, 1, 1, 1)


def last(path):
    for latent in path:
        sample = latent
    return sample


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 50, 333, 999, 1000])
def test_any_count_of_steps_is_met_exactly_and_starts_at_the_last(num_steps):
    steps = time_steps(1000, num_steps)
    assert len(set(steps)) == len(steps) == num_steps
    assert steps == sorted(steps, reverse=True)
    assert steps[0] == 999
    assert steps[-1] >= 0


@pytest.mark.parametrize("num_steps", [0, 1001])
def test_no_other_count_is_accepted(num_steps):
    with pytest.raises(ValueError, match="must be from 1 to"):
        time_steps(1000, num_steps)


@pytest.mark.parametrize("num_steps", [1, 3, 20, 1000])
def test_as_many_evaluations_as_steps(num_steps):
    path = list(ddim(gaussian, torch.randn(2, 1, 1, 1), SCHEDULE, num_steps, 0.0, noises(0)))
    assert len(path) == num_steps


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_converges_to_the_mean_and_variance_of_gaussian_data(eta):
    """The last denoised latent is a posterior mean, so few steps lose variance; the loss vanishes with their number."""
    samples = [last(ddim(gaussian, noises(-1)(0), SCHEDULE, n, eta, noises(0))) for n in (20, 100, 1000)]
    errors = [abs(sample.std().item() - STD) for sample in samples]
    assert errors == sorted(errors, reverse=True)
    assert samples[-1].mean().item() == pytest.approx(MEAN, abs=0.03)
    assert samples[-1].std().item() == pytest.approx(STD, rel=0.03)


def test_ddpm_does_too():
    sample = last(ddpm(gaussian, noises(-1)(0), SCHEDULE, noises(0)))
    assert sample.mean().item() == pytest.approx(MEAN, abs=0.03)
    assert sample.std().item() == pytest.approx(STD, rel=0.05)


def test_ddim_with_eta_one_and_all_steps_is_ddpm():
    start, noise = (
        torch.randn(16, 1, 1, 1),
        lambda i: torch.randn(16, 1, 1, 1, generator=torch.Generator().manual_seed(i)),
    )
    one = last(ddim(gaussian, start, SCHEDULE, 1000, 1.0, noise))
    other = last(ddpm(gaussian, start, SCHEDULE, noise))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_deterministic_ddim_asks_for_no_noise():
    def refuse(i):
        raise AssertionError("asked for noise")

    last(ddim(gaussian, torch.randn(1, 1, 1, 1), SCHEDULE, 10, 0.0, refuse))


def told(condition):
    """A denoiser of known latents, so that what guidance makes of them can be read off."""
    return lambda noisy, step: condition.tokens[:, :, :, None] + 0 * noisy


@pytest.mark.parametrize(("scale", "expected"), [(0.0, 1.0), (1.0, 3.0), (2.5, 6.0)])
def test_guidance_goes_from_the_null_condition_through_the_wanted_one(scale, expected):
    wanted, null = (Condition(tokens=torch.full((2, 1, 1), value)) for value in (3.0, 1.0))
    denoise = guided(told, wanted, null, scale)
    out = denoise(torch.randn(2, 1, 1, 1), torch.tensor([4, 4]))
    torch.testing.assert_close(out, torch.full((2, 1, 1, 1), expected))
