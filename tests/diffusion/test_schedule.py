"""How much of latent and noise there is at each step: the equations, and what diffusers 0.42.1 has."""

import csv

import pytest
import torch

from ldm.conditioning import nothing_dropped
from ldm.config import Run
from ldm.diffusion.config import Cosine, Linear, Regression
from ldm.diffusion.loss import diffusion_loss
from ldm.diffusion.model import weights_name
from ldm.diffusion.preview import preview
from ldm.diffusion.schedule import Schedule
from ldm.diffusion.train import train
from ldm.files import identity, write_json, write_manifest
from ldm.sampling.config import DDIM, Drawing
from ldm.sampling.plan import step_list
from ldm.sampling.samplers import ddim
from tests.diffusion.small import LABEL, made, row, write_random_latents

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


REGRESSION = {"objective": "x0", "schedule": {"kind": "regression"}}


def test_a_regression_has_one_step_with_nothing_of_the_latent():
    s = Schedule.from_config(Regression(kind="regression"))
    assert (s.alpha.tolist(), s.sigma.tolist()) == ([0], [1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "v"}, "schedule: {kind: regression} predicts the latent; say objective: x0"),
        ({"objective": "epsilon"}, "say objective: x0"),
        ({"snr_gamma": 5.0}, "snr_gamma weighs steps, and schedule: {kind: regression} has one; leave it out"),
        ({"schedule": {"kind": "regression", "steps": 5}}, "unknown key 'steps'"),
    ],
)
def test_what_a_regression_cannot_be_is_said(changes, message):
    with pytest.raises(ValueError, match=message):
        row(**REGRESSION | changes)


def test_a_regression_is_sampled_in_one_step_and_not_in_more():
    def how(num_steps):
        return Drawing(sampler=DDIM(kind="ddim", num_steps=num_steps, eta=0.0), guidance=1.0, seed=0)

    assert step_list(1, how(1)) == [0]
    with pytest.raises(ValueError, match="num_steps 20 must be from 1 to the schedule's 1 steps"):
        step_list(1, how(20))


def test_a_regression_learns_the_mean_of_what_its_condition_allows_and_to_ignore_the_noise():
    """Latents are the label's own value and Gaussian noise about it; their mean is that value, their variance stays."""
    own, spread = torch.tensor([1.0, -1.0]), 0.5
    model, draw = made(condition=LABEL, **REGRESSION), torch.Generator().manual_seed(3)
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    late = []
    for step in range(150):
        labels = torch.randint(2, (32,), generator=draw)
        raw = own[labels, None, None, None] + spread * torch.randn(32, 3, 8, 8, generator=draw)
        steps = torch.zeros(32, dtype=torch.long)
        noise, chance = torch.randn(raw.shape, generator=draw), torch.rand(32, 2, generator=draw)
        loss = diffusion_loss(
            model, model.schedule, raw, {"label": labels}, steps, noise, chance, norm="l2", snr_gamma=None
        )
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
        late += [loss.mean().item()] if step >= 120 else []
    labels = torch.tensor([0, 1] * 8)
    denoise = model.denoiser(model.condition({"label": labels}, nothing_dropped(16, torch.device("cpu"))))
    one, other = (preview(denoise, torch.randn(16, 3, 8, 8, generator=draw), model.schedule) for _ in range(2))
    mean = own[labels, None, None, None].expand_as(one)
    assert (one - mean).square().mean().sqrt() < 0.3 * spread
    assert (one - other).square().mean().sqrt() < 0.3 * spread, "the noise goes in and has no say"
    assert sum(late) / len(late) > 0.9 * spread**2


def test_preview_and_the_sampler_are_the_one_pass_itself():
    model, noise = made(condition=LABEL, **REGRESSION), torch.randn(2, 3, 8, 8)
    for parameter in model.unet.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    condition = model.condition({"label": torch.tensor([0, 1])}, nothing_dropped(2, torch.device("cpu")))
    with torch.no_grad():
        passed = model.unet(noise, torch.zeros(2, dtype=torch.long), condition)
        denoise = model.denoiser(condition)
        assert torch.equal(preview(denoise, noise, model.schedule), passed)
        (last,) = ddim(denoise, noise, model.schedule, [0], 0.0, lambda i: noise)
    assert torch.equal(last, passed)


def test_the_training_loop_trains_one_with_validation_pictures_and_snapshots(tmp_path):
    coder, latents, out, none = (tmp_path / name for name in ("coder", "latents", "out", "none"))
    write_json(coder / "config.json", {"kind": "identity", "dataset": "x", "perceptual": "none", "init_from": "none"})
    write_manifest(coder)
    latents.mkdir()
    warning = "channel 2 carries nothing"
    write_random_latents(latents, autoencoder=identity(coder), health={"warnings": [warning]})
    run = Run(mode="exact", device="cpu", threads=1, instructions="native")
    config = row(condition=LABEL, train={"steps": 4, "picture_every": 2, "snapshots": [2]}, **REGRESSION)
    first, *_, last = train(config, run, latents, coder, none, out, tmp_path / "resume")
    assert (first.done, first.notes) == (0, [f"{latents}: {warning}"]), "before a step is spent on a bad space"
    assert last.scalars["val_loss"] > 0
    assert {weights_name(), weights_name(2), "samples.png"} <= {path.name for path in out.iterdir()}
    rows = list(csv.DictReader((out / "history.csv").open()))
    assert {name for name in rows[-1] if name.startswith("loss_t")} == {"loss_t0"}
