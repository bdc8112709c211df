"""The latent scale, the preview, and what is read back from a model's folder."""

import pytest
import torch

from ldm.diffusion.config import Linear
from ldm.diffusion.model import LatentScale, load
from ldm.diffusion.preview import preview
from ldm.diffusion.schedule import Schedule
from ldm.files import read_json, write_json, write_manifest
from ldm.nn.condition import Condition
from tests.diffusion.small import INFO, LABEL, ROW, made, row, write_random_latents, write_small_model


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


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("num_steps", [1, 7, 20])
def test_the_preview_finds_a_latent_that_the_denoiser_is_sure_of(zero_terminal_snr, num_steps):
    schedule = Schedule.from_config(
        Linear(kind="linear", steps=100, beta_start=0.0015, beta_end=0.0195, zero_terminal_snr=zero_terminal_snr)
    )
    sure = torch.full((2, 3, 4, 4), 0.3)
    found = preview(lambda noisy, step: sure, torch.randn(2, 3, 4, 4), schedule, num_steps)
    torch.testing.assert_close(found, sure)


@pytest.mark.parametrize("objective", ["x0", "v"])
def test_a_denoiser_is_finite_where_all_is_noise(objective):
    model = made(objective=objective, schedule=ROW["schedule"] | {"zero_terminal_snr": True}).eval()
    latent = preview(model.denoiser(Condition()), torch.randn(2, 3, 8, 8), model.schedule)
    assert latent.isfinite().all()


def test_latents_too_small_for_the_unet_are_refused():
    with pytest.raises(ValueError, match="latent size 8 is not a multiple of 16"):
        made(unet={"channel_mult": [1, 1, 1, 1, 1], "attention_factors": []})


def test_rows_that_contradict_themselves_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^params.yaml: diffusion.x: objective: epsilon .* say objective: v$"):
        row(objective="epsilon", schedule=ROW["schedule"] | {"zero_terminal_snr": True})
    with pytest.raises(ValueError, match=r"^params.yaml: diffusion.x.train: snapshots has 21, .* steps: 20$"):
        row(train={"snapshots": [10, 21]})
    with pytest.raises(ValueError, match=r"objective: label has train.loss: cross_entropy, not l2"):
        row(objective="label")
    with pytest.raises(ValueError, match=r"objective: v has train.loss: l2 or l1, not cross_entropy"):
        row(train={"loss": "cross_entropy"})
    with pytest.raises(ValueError, match="objective: label is told no condition"):
        row(objective="label", train={"loss": "cross_entropy"}, condition=LABEL)
    with pytest.raises(ValueError, match="objective: label needs a data set with classes"):
        made(INFO | {"classes": None}, objective="label", train={"loss": "cross_entropy"})
    with pytest.raises(ValueError, match=r"^params.yaml: diffusion.x: snr_gamma weighs squared differences; "):
        row(snr_gamma=5.0, train={"loss": "l1"})
    with pytest.raises(ValueError, match=r"^params.yaml: diffusion.x.schedule: unknown key 'beta_strat'"):
        row(schedule=ROW["schedule"] | {"beta_strat": 0.1})


def test_a_model_and_its_snapshots_are_read_back_and_others_refused(tmp_path):
    write_random_latents(tmp_path / "latents")
    written = write_small_model(tmp_path / "model", tmp_path / "latents", train={"snapshots": [5, 20]})
    for snapshot in (None, 5, 20):
        model, about = load(tmp_path / "model", snapshot)
        assert about["initial_identity"] is None
        assert all(torch.equal(value, written.state_dict()[name]) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match=r"no snapshot of step 6 \(there is: 5, 20\)"):
        load(tmp_path / "model", 6)


@pytest.mark.parametrize(
    ("change", "misfit"),
    [
        ({"channels": 16}, r"unet\.time\.0\.weight is \[32, 8\], not \[64, 16\]"),
        ({"num_res_blocks": 2}, r"unet\.\S+ is absent, not \[.*\]"),
        ({"attention_factors": []}, r"unet\.\S+ is .*, not .*"),
    ],
)
def test_weights_of_another_model_than_that_of_config_json_are_refused_in_one_line(change, misfit, tmp_path):
    write_random_latents(tmp_path / "latents")
    folder = tmp_path / "model"
    write_small_model(folder, tmp_path / "latents")
    about = read_json(folder / "config.json")
    about["diffusion"]["unet"] |= change
    write_json(folder / "config.json", about)
    write_manifest(folder)
    with pytest.raises(ValueError, match=rf"model: ema\.safetensors does not fit config\.json: {misfit}; ") as caught:
        load(folder)
    assert "\n" not in str(caught.value)
