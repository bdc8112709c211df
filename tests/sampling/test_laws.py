"""Laws of sampling that hold exactly: guidance of 1 is none, and what is known stays what it is."""

import pytest
import torch

from ldm.diffusion import config as c
from ldm.diffusion.schedule import Schedule
from ldm.nn.condition import Condition
from ldm.sampling.guidance import guided
from ldm.sampling.inpainting import known_kept
from ldm.sampling.samplers import ddim, ddpm, dpm_solver, plms
from ldm.sampling.steps import time_steps
from tests.sampling.small import TEXT

SCHEDULE = Schedule.from_config(c.Linear(kind="linear", steps=100, beta_start=0.0015, beta_end=0.195))
SHAPE = (2, 3, 4, 4)


def drawn(*key):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(sum(key)))


def shrink(noisy, step):
    return torch.tanh(noisy) * (0.5 + step.float()[:, None, None, None] / 1000)


STEPS = time_steps(100, 10)
SAMPLERS = {
    "ddpm": lambda denoise: ddpm(denoise, drawn(7), SCHEDULE, list(reversed(range(100))), drawn),
    "ddim": lambda denoise: ddim(denoise, drawn(7), SCHEDULE, STEPS, 0.0, drawn),
    "ddim, eta 1": lambda denoise: ddim(denoise, drawn(7), SCHEDULE, STEPS, 1.0, drawn),
    "plms": lambda denoise: plms(denoise, drawn(7), SCHEDULE, STEPS),
    "dpm_solver": lambda denoise: dpm_solver(denoise, drawn(7), SCHEDULE, STEPS),
}


def test_guidance_of_one_is_the_bare_model_to_the_bit(built):
    model = built(tokens=TEXT)
    wanted, null = (
        Condition(tokens=torch.randn(2, 5, TEXT["width"], generator=torch.Generator().manual_seed(seed)))
        for seed in (0, 1)
    )
    noisy = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(2))
    step = torch.tensor([3, 90])
    bare = model.denoiser(wanted)(noisy, step)
    assert torch.equal(guided(model.denoiser, wanted, null, 1.0)(noisy, step), bare)
    assert not torch.allclose(guided(model.denoiser, wanted, null, 1.5)(noisy, step), bare)


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_sampler_ends_at_what_is_known_outside_the_hole_and_elsewhere_within(name):
    known, hole = drawn(20), torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    hole[0, :, 1:3, 1:3], hole[1, :, :, 2:] = True, True
    *_, sample = SAMPLERS[name](known_kept(shrink, known, hole))
    everywhere = hole.expand(SHAPE)
    # PLMS mixes noise estimates and so comes back to the known latent by rounding
    torch.testing.assert_close(sample[~everywhere], known[~everywhere], rtol=1e-3, atol=1e-3)
    assert (sample - known)[everywhere].abs().mean() > 0.1
    if name != "plms":
        assert torch.equal(sample[~everywhere], known[~everywhere])
