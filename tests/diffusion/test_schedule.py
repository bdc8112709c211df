"""How much of latent and noise there is at each step: the equations, and what diffusers 0.42.1 has."""

import pytest
import torch

from ldm.diffusion.config import Cosine, Linear
from ldm.diffusion.schedule import Schedule

STEPS = (0, 100, 500, 900, 998, 999)
ALPHA_BAR = {
    ("linear", False): [0.9985, 0.8231169, 0.114922, 0.000872532, 0.000145134, 0.0001423039],
    ("linear", True): [0.9985002, 0.8211018, 0.109577, 0.0003176341, 1.427183e-08, 0],
    ("cosine", False): [0.9999587, 0.9715756, 0.492285, 0.02361611, 2.428766e-06, 2.428735e-09],
    ("cosine", True): [0.9999589, 0.9715744, 0.492265, 0.02360331, 2.277814e-06, 0],
}
"""alphas_cumprod of DDPMScheduler: scaled_linear .0015 to .0195, or squaredcos_cap_v2; with rescale_betas_zero_snr."""


def schedule(kind: str = "linear", zero_terminal_snr: bool = False, steps: int = 1000) -> Schedule:
    if kind == "cosine":
        return Schedule.from_config(Cosine(kind="cosine", steps=steps, zero_terminal_snr=zero_terminal_snr))
    return Schedule.from_config(
        Linear(kind="linear", steps=steps, beta_start=0.0015, beta_end=0.0195, zero_terminal_snr=zero_terminal_snr)
    )


@pytest.mark.parametrize(("kind", "zero"), ALPHA_BAR)
def test_alpha_bar_is_that_of_diffusers(kind, zero):
    found = schedule(kind, zero).alpha[list(STEPS)].square().tolist()
    assert found == pytest.approx(ALPHA_BAR[kind, zero], rel=1e-3, abs=0)


@pytest.mark.parametrize(("kind", "zero"), ALPHA_BAR)
@pytest.mark.parametrize("steps", [2, 3, 10, 1000])
def test_variance_is_preserved_noise_grows_and_is_never_absent(kind, zero, steps):
    s = schedule(kind, zero, steps)
    torch.testing.assert_close(s.alpha**2 + s.sigma**2, torch.ones(steps))
    assert (s.alpha.diff() < 0).all()
    assert (s.sigma > 0).all()
    assert (s.alpha[-1].item() == 0) == zero


def test_the_first_step_is_that_of_the_release_and_stays_so_when_the_last_is_made_noise():
    assert schedule().alpha[0].item() ** 2 == pytest.approx(1 - 0.0015, rel=1e-6)
    assert schedule("linear", True).alpha[0].item() == pytest.approx(schedule().alpha[0].item(), rel=1e-6)
    with pytest.raises(ValueError, match="steps must be at least 2"):
        schedule("cosine", True, steps=1)
