"""Schedule, objectives, scale and loss: the equations."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ldm.config import load, section
from ldm.diffusion import config as c
from ldm.diffusion.loss import diffusion_loss, raw_latent
from ldm.diffusion.model import DiffusionModel, LatentScale, denoised, target
from ldm.diffusion.preview import preview
from ldm.diffusion.schedule import Schedule

SMOKE = Path(__file__).parents[2] / "presets/smoke.yaml"
INFO = {
    "latent_shape": [3, 8, 8],
    "shapes": {"mean": [3, 8, 8], "std": [3, 8, 8], "low_resolution": [3, 8, 8], "tokens": [6]},
    "channel_mean": [1.0, -2.0, 0.0],
    "channel_std": [2.0, 0.5, 1.0],
    "classes": ["a", "b"],
    "vocabulary_size": 20,
    "null_tokens": [2, 3, 0, 0, 0, 0],
}


def schedule(steps: int = 1000) -> Schedule:
    return Schedule.from_config(c.Schedule(steps=steps, beta_start=0.0015, beta_end=0.0195))


def model(**changes) -> DiffusionModel:
    row = load(SMOKE)["diffusion"]["text-f4"]
    row["unet"] |= {"channels": 8, "heads": 2}
    torch.manual_seed(0)
    return DiffusionModel(section({"diffusion": {"x": row | changes}}, c.Diffusion, "diffusion.x"), INFO)


def test_variance_is_preserved():
    s = schedule()
    torch.testing.assert_close(s.alpha**2 + s.sigma**2, torch.ones(1000))


def test_the_first_and_last_step_are_those_of_the_release():
    """Golden: alpha-bar of betas linear in their roots from .0015 to .0195, as the released buffers have it."""
    s = schedule()
    assert (s.alpha[0] ** 2).item() == pytest.approx(1 - 0.0015, rel=1e-6)
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2
    assert (s.alpha[-1] ** 2).item() == pytest.approx(torch.prod(1 - betas).item(), rel=1e-5)


@given(st.integers(0, 999))
def test_v_is_alpha_epsilon_minus_sigma_x0_and_both_objectives_agree_on_x0(step):
    alpha, sigma = schedule().at(torch.tensor([step]))
    generator = torch.Generator().manual_seed(step)
    latent, noise = torch.randn(2, 1, 3, 4, 4, generator=generator, dtype=torch.float64).unbind()
    noisy = alpha * latent + sigma * noise
    v = target("v", latent, noise, alpha, sigma)
    torch.testing.assert_close(v, alpha * noise - sigma * latent)
    for objective in ("epsilon", "v"):
        prediction = target(objective, latent, noise, alpha, sigma)
        found = denoised(objective, noisy, prediction, alpha, sigma)
        torch.testing.assert_close(found, latent, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", ["channel", "std", 0.18215])
def test_the_latent_scale_is_undone_exactly(scale):
    to_latent = LatentScale.from_statistics(scale, INFO)
    raw = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(to_latent.inverse(to_latent(raw)), raw)


def test_scaled_by_channel_each_has_mean_zero_and_std_one():
    mean, std = torch.tensor(INFO["channel_mean"]), torch.tensor(INFO["channel_std"])
    raw = mean[:, None, None] + std[:, None, None] * torch.randn(4000, 3, 2, 2)
    latent = LatentScale.from_statistics("channel", INFO)(raw)
    torch.testing.assert_close(latent.mean((0, 2, 3)), torch.zeros(3), atol=0.03, rtol=0)
    torch.testing.assert_close(latent.std((0, 2, 3)), torch.ones(3), atol=0.03, rtol=0)


def test_scaled_by_std_all_channels_together_have_std_one():
    mean, std = torch.tensor(INFO["channel_mean"]), torch.tensor(INFO["channel_std"])
    raw = mean[:, None, None] + std[:, None, None] * torch.randn(20000, 3, 2, 2)
    assert LatentScale.from_statistics("std", INFO)(raw).std().item() == pytest.approx(1, rel=0.02)


def test_an_untrained_model_has_the_loss_of_predicting_nothing():
    """The UNet starts at zero, so the loss is the mean square of the noise: one."""
    untrained = model(condition="none", conditioner={}, objective="epsilon")
    raw = torch.randn(512, 3, 8, 8)
    loss = diffusion_loss(
        untrained, schedule(), raw, {}, condition_dropout=0.0, norm="l2", generator=torch.Generator().manual_seed(0)
    )
    assert loss.item() == pytest.approx(1, rel=0.02)


def test_the_loss_is_a_function_of_its_generator():
    one, other = (
        diffusion_loss(
            model(condition="none", conditioner={}),
            schedule(),
            torch.ones(2, 3, 8, 8),
            {},
            condition_dropout=0.0,
            norm="l1",
            generator=torch.Generator().manual_seed(5),
        )
        for _ in range(2)
    )
    assert torch.equal(one, other)


def test_a_raw_latent_is_drawn_from_its_posterior():
    rows = {"mean": torch.full((1, 3, 8, 8), 5.0), "std": torch.zeros(1, 3, 8, 8)}
    assert torch.equal(raw_latent(rows, torch.Generator()), rows["mean"])
    pixels = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert raw_latent({"pixels": pixels}, torch.Generator()).unique().tolist() == [-1, 1]


def test_the_preview_finds_a_latent_that_the_denoiser_is_sure_of():
    sure = torch.full((2, 3, 4, 4), 0.3)
    found = preview(lambda noisy, step: sure, torch.randn(2, 3, 4, 4), schedule())
    torch.testing.assert_close(found, sure)


def test_latents_too_small_for_the_unet_are_refused():
    with pytest.raises(ValueError, match="latent size 8 is not a multiple of 16"):
        model(
            unet={
                "channels": 8,
                "channel_mult": [1, 1, 1, 1, 1],
                "num_res_blocks": 1,
                "attention_factors": [],
                "heads": 1,
                "transformer_depth": 1,
                "dropout": 0.0,
            }
        )
