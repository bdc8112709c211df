"""Samplers against what is known analytically, and against each other; test_peer.py holds them against diffusers'."""

import pytest
import torch

from ldm.diffusion import config as c
from ldm.diffusion.schedule import Schedule
from ldm.nn.condition import Condition
from ldm.sampling.guidance import guided
from ldm.sampling.samplers import ddim, ddpm, dpm_solver, plms
from ldm.sampling.steps import time_steps

SCHEDULE = Schedule.from_config(c.Linear(kind="linear", steps=1000, beta_start=0.0015, beta_end=0.0195))
ZERO = Schedule.from_config(
    c.Linear(kind="linear", steps=1000, beta_start=0.0015, beta_end=0.0195, zero_terminal_snr=True)
)
MEAN, STD = 0.7, 0.4
SHAPE = (4000, 1, 1, 1)


def exact(schedule):
    """The exact denoiser of data that is N(MEAN, STD^2): the posterior mean of the latent given the noisy one."""

    def gaussian(noisy, step):
        alpha, sigma = schedule.at(step)
        gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
        return MEAN + gain * (noisy - alpha * MEAN)

    return gaussian


gaussian = exact(SCHEDULE)


def noises(seed):
    def noise(i):
        sample = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed + i))
        return (sample - sample.mean()) / sample.std()  # no sampling error in what the moments are compared by

    return noise


def refuse(i):
    raise AssertionError("asked for noise")


def last(path):
    for latent in path:
        sample = latent
    return sample


SAMPLERS = {
    "ddim": lambda d, x, s, n: ddim(d, x, s, time_steps(len(s), n), 0.0, refuse),
    "ddim eta 1": lambda d, x, s, n: ddim(d, x, s, time_steps(len(s), n), 1.0, noises(0)),
    "plms": lambda d, x, s, n: plms(d, x, s, time_steps(len(s), n)),
    "dpm_solver": lambda d, x, s, n: dpm_solver(d, x, s, time_steps(len(s), n)),
}


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 50, 333, 999, 1000])
def test_any_count_of_steps_is_met_exactly_and_starts_at_the_last(num_steps):
    steps = time_steps(1000, num_steps)
    assert len(set(steps)) == len(steps) == num_steps
    assert steps == sorted(steps, reverse=True)
    assert steps[0] == 999
    assert steps[-1] >= 0


def test_the_released_spacing_is_met_exactly_or_refused():
    for num_steps in range(1, 1001):
        as_released = range(1, 1001, 1000 // num_steps)  # crashes where it reaches 1000, else has a length of its own
        if len(as_released) == num_steps and 1000 not in as_released:
            assert time_steps(1000, num_steps, "released") == list(reversed(as_released))
            continue
        with pytest.raises(ValueError, match=r"would take .* spacing: even"):
            time_steps(1000, num_steps, "released")


@pytest.mark.parametrize("num_steps", [10, 50, 100, 200, 250, 500])
def test_the_papers_counts_are_met_as_released(num_steps):
    assert len(time_steps(1000, num_steps, "released")) == num_steps


@pytest.mark.parametrize("num_steps", [0, 1001])
def test_no_other_count_is_accepted(num_steps):
    with pytest.raises(ValueError, match="must be from 1 to"):
        time_steps(1000, num_steps)


@pytest.mark.parametrize("schedule", [SCHEDULE, ZERO], ids=["snr", "zero terminal snr"])
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("num_steps", [1, 2, 20])
def test_one_finite_latent_a_step_also_where_no_latent_is_left_at_the_first(name, schedule, num_steps):
    path = list(SAMPLERS[name](exact(schedule), noises(-1)(0), schedule, num_steps))
    assert len(path) == num_steps
    assert torch.stack(path).isfinite().all()


@pytest.mark.parametrize("schedule", [SCHEDULE, ZERO], ids=["snr", "zero terminal snr"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_each_converges_to_the_mean_and_variance_of_gaussian_data(name, schedule):
    """The last denoised latent is a posterior mean, so few steps lose variance; the loss vanishes with their number."""
    paths = [SAMPLERS[name](exact(schedule), noises(-1)(0), schedule, n) for n in (10, 60, 1000)]
    samples = [last(path) for path in paths]
    errors = [abs(sample.std().item() - STD) for sample in samples]
    assert errors[0] > errors[2]
    assert samples[-1].mean().item() == pytest.approx(MEAN, abs=0.03)
    assert samples[-1].std().item() == pytest.approx(STD, rel=0.03)


def test_the_second_order_ones_need_fewer_steps():
    true = last(SAMPLERS["ddim"](gaussian, noises(-1)(0), SCHEDULE, 1000))
    error = {n: (last(SAMPLERS[n](gaussian, noises(-1)(0), SCHEDULE, 20)) - true).abs().mean() for n in SAMPLERS}
    assert error["dpm_solver"] < error["ddim"]
    assert error["plms"] < error["ddim"]


@pytest.mark.parametrize("schedule", [SCHEDULE, ZERO], ids=["snr", "zero terminal snr"])
def test_ddpm_does_too(schedule):
    sample = last(ddpm(exact(schedule), noises(-1)(0), schedule, list(reversed(range(1000))), noises(0)))
    assert sample.mean().item() == pytest.approx(MEAN, abs=0.03)
    assert sample.std().item() == pytest.approx(STD, rel=0.05)


def test_ddim_with_eta_one_and_all_steps_is_ddpm():
    start, noise = (
        torch.randn(16, 1, 1, 1),
        lambda i: torch.randn(16, 1, 1, 1, generator=torch.Generator().manual_seed(i)),
    )
    steps = time_steps(1000, 1000)
    one = last(ddim(gaussian, start, SCHEDULE, steps, 1.0, noise))
    other = last(ddpm(gaussian, start, SCHEDULE, steps, noise))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("step", [1, 400, 999])
def test_what_ddim_adds_with_eta_one_has_the_variance_of_ddpms_posterior(step):
    """beta (1 - alpha-bar before) / (1 - alpha-bar): seen as the difference that unit noise makes in one step."""
    seen = []

    def watch(noisy, at):
        seen.append(noisy)
        return torch.zeros_like(noisy)

    for value in (0.0, 1.0):
        noise = torch.full((1, 1, 1, 1), value)
        last(ddim(watch, torch.zeros(1, 1, 1, 1), SCHEDULE, [step, step - 1], 1.0, lambda i, noise=noise: noise))
    added = seen[3] - seen[1]
    bar, before = SCHEDULE.alpha[step].double().square(), SCHEDULE.alpha[step - 1].double().square()
    variance = (1 - bar / before) * (1 - before) / (1 - bar)
    assert added.square().item() == pytest.approx(variance.item(), rel=1e-3)


def told(condition):
    """A denoiser of known latents, so that what guidance makes of them can be read off."""
    return lambda noisy, step: condition.tokens[:, :, :, None] + 0 * noisy


@pytest.mark.parametrize(("scale", "expected"), [(0.0, 1.0), (1.0, 3.0), (2.5, 6.0)])
def test_guidance_goes_from_the_null_condition_through_the_wanted_one(scale, expected):
    wanted, null = (Condition(tokens=torch.full((2, 1, 1), value)) for value in (3.0, 1.0))
    denoise = guided(told, wanted, null, scale)
    out = denoise(torch.randn(2, 1, 1, 1), torch.tensor([4, 4]))
    torch.testing.assert_close(out, torch.full((2, 1, 1, 1), expected))
