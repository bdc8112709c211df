"""Objectives, their weights and the loss: the equations, and that each can be learned."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ldm.diffusion.config import Linear
from ldm.diffusion.loss import columns_read, diffusion_loss, min_snr_weight, raw_latent
from ldm.diffusion.model import denoised, noise_of, target
from ldm.diffusion.schedule import Schedule
from ldm.nn.condition import Condition
from tests.diffusion.small import INFO, TEXT, made

SCHEDULE = Schedule.from_config(Linear(kind="linear", steps=1000, beta_start=0.0015, beta_end=0.0195))
OBJECTIVES = ("epsilon", "x0", "v")


def at(step, dtype=torch.float64):
    """alpha and sigma in double precision, exactly on the unit circle."""
    alpha = SCHEDULE.alpha[step].to(dtype).reshape(1, 1, 1, 1)
    return alpha, (1 - alpha.square()).sqrt()


def drawn(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(2, 1, 3, 4, 4, generator=generator, dtype=torch.float64).unbind()


def loss(model, raw, rows=None, *, norm="l2", snr_gamma=None, seed=5):
    draw = torch.Generator().manual_seed(seed)
    step = torch.randint(len(model.schedule), (len(raw),), generator=draw)
    noise, chance = torch.randn(raw.shape, generator=draw), torch.rand(len(raw), 2, generator=draw)
    return diffusion_loss(model, model.schedule, raw, rows or {}, step, noise, chance, norm=norm, snr_gamma=snr_gamma)


@given(st.integers(0, 999))
def test_v_is_alpha_epsilon_minus_sigma_x0_and_all_objectives_agree_on_x0_and_the_noise(step):
    (alpha, sigma), (latent, noise) = at(step), drawn(step)
    noisy = alpha * latent + sigma * noise
    torch.testing.assert_close(target("v", latent, noise, alpha, sigma), alpha * noise - sigma * latent)
    for objective in OBJECTIVES:
        found = denoised(objective, noisy, target(objective, latent, noise, alpha, sigma), alpha, sigma)
        torch.testing.assert_close(found, latent)
        torch.testing.assert_close(noise_of(noisy, found, alpha, sigma), noise)


@given(st.integers(0, 999), st.floats(0.1, 20))
def test_with_min_snr_every_objective_weighs_the_error_of_the_latent_by_the_lesser_of_snr_and_gamma(step, gamma):
    """The definition of arXiv 2303.09556: whatever is predicted, the loss is min(SNR, gamma) |x0 - found|^2."""
    (alpha, sigma), (latent, noise) = at(step), drawn(step)
    noisy, off = alpha * latent + sigma * noise, drawn(step + 1000)[0]
    for objective in OBJECTIVES:
        right = target(objective, latent, noise, alpha, sigma)
        found = denoised(objective, noisy, right + off, alpha, sigma)
        weighted = min_snr_weight(objective, alpha, sigma, gamma) * off.square().mean()
        snr = (alpha / sigma).square()
        torch.testing.assert_close(weighted, torch.clamp(snr, max=gamma) * (found - latent).square().mean())


def test_min_snr_weights_what_the_training_adds_up():
    model, raw = made(objective="epsilon"), torch.randn(16, 3, 8, 8)
    plain, weighted = loss(model, raw), loss(model, raw, snr_gamma=5.0)
    alpha, sigma = model.schedule.at(torch.randint(100, (16,), generator=torch.Generator().manual_seed(5)))
    torch.testing.assert_close(weighted, plain * min_snr_weight("epsilon", alpha, sigma, 5.0).flatten())
    assert (weighted < plain).any()


@pytest.mark.parametrize("objective", ["epsilon", "v"])
def test_an_untrained_model_has_the_loss_of_predicting_nothing(objective):
    """The UNet starts at zero, so the loss is the target's mean square, which is one for unit latents too."""
    assert loss(made(objective=objective), torch.randn(512, 3, 8, 8)).mean().item() == pytest.approx(1, rel=0.02)


def test_the_loss_is_a_function_of_its_generator_and_differs_by_norm():
    raw = torch.ones(2, 3, 8, 8)
    assert torch.equal(loss(made(), raw, norm="l1"), loss(made(), raw, norm="l1"))
    assert not torch.equal(loss(made(), raw, norm="l1"), loss(made(), raw, norm="l2"))
    assert not torch.equal(loss(made(), raw), loss(made(), raw, seed=6))


def test_a_raw_latent_is_drawn_from_its_posterior_and_is_what_was_cached_where_there_is_none():
    mean, noise = torch.full((1, 3, 8, 8), 5.0), torch.randn(1, 3, 8, 8)
    assert torch.equal(raw_latent({"mean": mean, "std": torch.zeros(1, 3, 8, 8)}, noise), mean)
    assert torch.equal(raw_latent({"mean": mean, "std": torch.full((1, 3, 8, 8), 2.0)}, noise), mean + 2 * noise)
    assert torch.equal(raw_latent({"mean": mean}, None), mean)
    pixels = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert raw_latent({"pixels": pixels}, None).unique().tolist() == [-1, 1]


@pytest.mark.parametrize("changes", [
    {"objective": "epsilon"},
    {"objective": "x0"},
    {"objective": "v"},
    {"objective": "v", "schedule": {"kind": "cosine", "steps": 100, "zero_terminal_snr": True}, "snr_gamma": 5.0},
])  # fmt: skip
def test_a_constant_is_learned(changes):
    model = made(INFO | {"latent_shape": [3, 4, 4]}, **changes).train()
    raw = torch.tensor([0.5, -0.5, 0.2])[:, None, None].expand(16, 3, 4, 4)
    half = torch.full((16,), 50)
    alpha, sigma = model.schedule.at(half)
    noisy = alpha * raw + sigma * torch.randn(raw.shape, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def error() -> float:
        return (model.denoiser(Condition())(noisy, half) - raw).abs().mean().item()

    untrained = error()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(60):
        optimiser.zero_grad()
        loss(model, raw, snr_gamma=changes.get("snr_gamma"), seed=step).mean().backward()
        optimiser.step()
    assert error() < untrained / 2


def test_training_reads_the_latent_and_its_condition_and_nothing_else():
    shapes = INFO["shapes"] | {"mask": [32, 32], "picture": [3, 32, 32]}
    assert columns_read(made(), shapes) == ["mean", "std"]
    assert columns_read(made(condition=TEXT), shapes) == ["mean", "std", "tokens"]


def test_a_classifiers_loss_is_the_cross_entropy_of_the_label_and_nothing_without_one():
    model = made(objective="label", train={"loss": "cross_entropy"})
    raw, label = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, -1, 1])
    found = loss(model, raw, {"label": label}, norm="cross_entropy")
    draw = torch.Generator().manual_seed(5)
    step = torch.randint(len(model.schedule), (4,), generator=draw)
    alpha, sigma = model.schedule.at(step)
    logits = model.unet(alpha * model.scale(raw) + sigma * torch.randn(raw.shape, generator=draw), step)
    assert logits.shape == (4, 2)
    wanted = logits.logsumexp(1) - logits.gather(1, label.clamp(min=0)[:, None])[:, 0]
    torch.testing.assert_close(found, torch.where(label < 0, 0.0, wanted))


def test_a_classifier_learns_its_classes():
    """Latents of two classes that differ in their mean; most of the schedule is noise, so it is not always right."""
    model = made(objective="label", train={"loss": "cross_entropy"})
    draw, optimiser = torch.Generator().manual_seed(0), torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for seed in range(60):
        label = torch.randint(2, (16,), generator=draw)
        raw = torch.randn(16, 3, 8, 8, generator=draw) * 0.3 + (2.0 * label - 1)[:, None, None, None]
        losses.append(loss(model, raw, {"label": label}, norm="cross_entropy", seed=seed).mean())
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
