"""Samplers against diffusers' schedulers at matched time steps.

On a noise estimate that is no one's exact one, so that every coefficient shows; goldens are kept as text.
"""

import pytest
import torch

from ldm.diffusion import config as c
from ldm.diffusion.schedule import Schedule
from ldm.sampling.samplers import ddim, ddpm, dpm_solver, plms
from ldm.sampling.steps import time_steps

LINEAR = {"kind": "linear", "steps": 1000, "beta_start": 0.0015, "beta_end": 0.0195}
SCHEDULE = Schedule.from_config(c.Linear.model_validate(LINEAR))
ZERO = Schedule.from_config(c.Linear.model_validate(LINEAR | {"zero_terminal_snr": True}))


def refuse(i):
    raise AssertionError("asked for noise")


def last(path):
    for latent in path:
        sample = latent
    return sample


def estimate(noisy, step):
    return 0.3 * torch.tanh(noisy * (1 + step / 1000)) + 0.1 * torch.sin(3 * noisy + step / 100)


def denoise(noisy, step):
    alpha, sigma = SCHEDULE.at(step)
    return (noisy - sigma * estimate(noisy, step.float()[:, None, None, None])) / alpha


START = torch.linspace(-2, 2, 12).view(1, 3, 2, 2)
SAME = {"num_train_timesteps": 1000, "beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear"}


def velocity(schedule):
    """The same estimate taken as v, which also means something where no latent is left."""

    def denoise(noisy, step):
        alpha, sigma = schedule.at(step)
        return alpha * noisy - sigma * estimate(noisy, step.float()[:, None, None, None])

    return denoise


def drawn(seed):
    """Noise step by step, as diffusers draws it from a generator of that seed."""
    generator = torch.Generator().manual_seed(seed)
    return lambda i: torch.randn(START.shape, generator=generator)


def peer(scheduler, num_steps, **options):
    scheduler.set_timesteps(num_steps)
    noisy = START
    for step in scheduler.timesteps:
        noisy = scheduler.step(estimate(noisy, step.float()), step, noisy, **options).prev_sample
    return noisy, scheduler.timesteps.tolist()


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("num_steps", [4, 10, 50])
def test_released_ddim_agrees_with_diffusers(num_steps):
    diffusers = pytest.importorskip("diffusers")
    theirs, steps = peer(
        diffusers.DDIMScheduler(
            **SAME, clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading"
        ),
        num_steps,
    )
    assert steps == time_steps(1000, num_steps, "released")
    close(last(ddim(denoise, START, SCHEDULE, steps, 0.0, refuse, end=0)), theirs)


@pytest.mark.parametrize("num_steps", [4, 10, 50])
def test_even_ddim_agrees_with_diffusers_also_with_noise(num_steps):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(**SAME, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing")
    for eta in (0.0, 0.7):
        theirs, steps = peer(scheduler, num_steps, eta=eta, generator=torch.Generator().manual_seed(3))
        assert steps == time_steps(1000, num_steps)
        close(last(ddim(denoise, START, SCHEDULE, steps, eta, drawn(3))), theirs)


@pytest.mark.parametrize("num_steps", [4, 10, 50, 1000])
def test_ddpm_agrees_with_diffusers(num_steps):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(
        **SAME, clip_sample=False, variance_type="fixed_small", timestep_spacing="trailing"
    )
    theirs, steps = peer(scheduler, num_steps, generator=torch.Generator().manual_seed(3))
    assert steps == time_steps(1000, num_steps)
    ours = last(ddpm(denoise, START, SCHEDULE, steps, drawn(3)))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


ON_ZERO = {
    "ddim": lambda schedule, steps: ddim(velocity(schedule), START, schedule, steps, 0.0, refuse),
    "ddim eta 1": lambda schedule, steps: ddim(velocity(schedule), START, schedule, steps, 1.0, drawn(3)),
    "ddpm": lambda schedule, steps: ddpm(velocity(schedule), START, schedule, steps, drawn(3)),
    "dpm_solver": lambda schedule, steps: dpm_solver(velocity(schedule), START, schedule, steps),
}


def zero_peer(name):
    """Diffusers' sample from a schedule that ends in pure noise, on v; PLMS it does not have there."""
    diffusers = pytest.importorskip("diffusers")
    common = SAME | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    common |= {"timestep_spacing": "trailing"}
    seeded = {"generator": torch.Generator().manual_seed(3)}
    match name:
        case "ddpm":
            scheduler = diffusers.DDPMScheduler(**common, clip_sample=False, variance_type="fixed_small")
            return scheduler, seeded
        case "dpm_solver":
            return diffusers.DPMSolverMultistepScheduler(**common, final_sigmas_type="zero"), {}
        case _:
            scheduler = diffusers.DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=True)
            return scheduler, seeded | {"eta": 1.0} if name == "ddim eta 1" else {}


@pytest.mark.parametrize("num_steps", [1, 4, 10, 50])
@pytest.mark.parametrize("name", ON_ZERO)
def test_from_pure_noise_they_agree_with_diffusers(name, num_steps):
    scheduler, options = zero_peer(name)
    theirs, steps = peer(scheduler, num_steps, **options)
    assert steps == time_steps(1000, num_steps)
    schedule = ZERO
    if name == "dpm_solver":  # the peer keeps this little of the latent in its last step, so as to have a finite SNR
        alpha = torch.cat([ZERO.alpha[:-1], torch.tensor([2.0**-12])])
        schedule = Schedule(alpha, (1 - alpha.square()).sqrt())
        assert (last(ON_ZERO[name](ZERO, steps)) - theirs).abs().max() < 0.01
    close(last(ON_ZERO[name](schedule, steps)), theirs)


@pytest.mark.parametrize("num_steps", [4, 10, 50])
def test_plms_agrees_with_diffusers(num_steps):
    diffusers = pytest.importorskip("diffusers")
    theirs, _ = peer(diffusers.PNDMScheduler(**SAME, skip_prk_steps=True, steps_offset=1), num_steps)
    close(last(plms(denoise, START, SCHEDULE, time_steps(1000, num_steps, "released"), end=0)), theirs)


@pytest.mark.parametrize("num_steps", [2, 4, 10, 50])
def test_dpm_solver_agrees_with_diffusers(num_steps):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **SAME, algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint", timestep_spacing="trailing",
        final_sigmas_type="zero",
    )  # fmt: skip
    theirs, steps = peer(scheduler, num_steps)
    assert steps == time_steps(1000, num_steps)
    close(last(dpm_solver(denoise, START, SCHEDULE, steps)), theirs)


GOLDEN = {
    "ddim": [-58.85177, 1.13222, 56.60807],
    "ddpm": [-112.67251, 17.57133, 181.81868],
    "plms": [-59.82142, 0.62167, 56.5735],
    "dpm_solver": [-140.81081, 7.3311, 145.42416],
    "ddim from pure noise": [-1.21683, 0.03875, 1.25711],
    "ddpm from pure noise": [-0.3267, -0.29601, 0.01863],
}
"""Ten steps from START: the first, middle and last number of the sample, as diffusers 0.42.1 gives them."""


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_numbers(name):
    released, even = time_steps(1000, 10, "released"), time_steps(1000, 10)
    sample = {
        "ddim": lambda: ddim(denoise, START, SCHEDULE, released, 0.0, refuse, end=0),
        "ddpm": lambda: ddpm(denoise, START, SCHEDULE, even, drawn(3)),
        "plms": lambda: plms(denoise, START, SCHEDULE, released, end=0),
        "dpm_solver": lambda: dpm_solver(denoise, START, SCHEDULE, even),
        "ddim from pure noise": lambda: ON_ZERO["ddim"](ZERO, even),
        "ddpm from pure noise": lambda: ON_ZERO["ddpm"](ZERO, even),
    }[name]
    numbers = last(sample()).flatten()[[0, 6, 11]]
    assert numbers.tolist() == pytest.approx(GOLDEN[name], rel=1e-4, abs=1e-5)  # written to five decimals
