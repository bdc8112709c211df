"""What is seen of a training: means that are right however they are cut, and a loss that only the model changes."""

import pytest
import torch

from ldm.autoencoder.model import IdentityAutoencoder
from ldm.diffusion.watch import HeldBack, curves, seen
from tests.diffusion.small import LABEL, made, row, write_random_latents

CPU = torch.device("cpu")


def test_curves_are_means_over_the_window_and_over_each_tenth_of_the_schedule():
    window = [
        seen(torch.tensor([1.0, 2.0]), torch.tensor(10.0), torch.tensor([0, 999]), 1000),
        seen(torch.tensor([3.0, 4.0]), torch.tensor(20.0), torch.tensor([99, 100]), 1000),
    ]
    assert curves(window) == {
        "loss": 2.5, "gradient_norm": 15.0, "loss_t0": 2.0, "loss_t1": 4.0, "loss_t9": 2.0,
    }  # fmt: skip


def test_a_loss_that_is_no_number_shows_where_it_arose():
    found = curves([seen(torch.tensor([1.0, float("nan")]), torch.tensor(1.0), torch.tensor([3, 70]), 100)])
    assert found["loss_t0"] == 1.0
    assert found["loss_t7"] != found["loss_t7"]


@pytest.mark.parametrize("condition", [LABEL, {"tokens": {"kind": "none"}, "channels": {"kind": "none"}}])
def test_the_held_back_loss_is_the_same_until_the_model_changes(condition, tmp_path):
    write_random_latents(tmp_path / "latents")
    config, model = row(condition=condition), made(condition=condition).eval()
    held_back = HeldBack(tmp_path / "latents", ["mean", "std"], config, IdentityAutoencoder(), CPU)
    torch.manual_seed(1)
    first = held_back.look(model)
    torch.manual_seed(2)
    again = HeldBack(tmp_path / "latents", ["mean", "std"], config, IdentityAutoencoder(), CPU).look(model)
    assert first.scalars == again.scalars
    assert first.pictures["samples"].tobytes() == again.pictures["samples"].tobytes()
    assert first.scalars["val_loss"] == pytest.approx(1, rel=0.1)  # an untrained model of v predicts nothing
    torch.nn.init.ones_(model.unet.conv_out.bias)
    assert held_back.look(model).scalars["val_loss"] > first.scalars["val_loss"]


def test_where_nothing_is_held_back_there_is_a_picture_and_no_loss(tmp_path):
    write_random_latents(tmp_path / "latents", counts={"train": 30})
    held_back = HeldBack(tmp_path / "latents", ["mean", "std"], row(), IdentityAutoencoder(), CPU)
    look = held_back.look(made().eval())
    assert look.scalars == {}
    assert look.pictures["samples"].width > 8 * 8


def test_of_a_classifier_its_accuracy_on_noisy_latents_is_seen(tmp_path):
    """One that always says the first of two classes is right half of the time."""
    write_random_latents(tmp_path / "latents")
    labelled = {"objective": "label", "train": {"loss": "cross_entropy"}}
    model = made(**labelled).eval()
    held_back = HeldBack(tmp_path / "latents", ["mean", "std"], row(**labelled), IdentityAutoencoder(), CPU)
    model.unet.pool.out.bias.data = torch.tensor([100.0, -100.0])
    look = held_back.look(model)
    assert (look.scalars["val_accuracy"], look.pictures) == (0.5, {})
