"""The pieces that both loops share."""

import logging
import re

import pytest
import torch
from torch import nn

from ldm.training.checkpoint import Checkpoints
from ldm.training.config import Training
from ldm.training.ema import EMA
from ldm.training.history import History, finite
from ldm.training.optimiser import adam, adamw, rate, update

CPU = torch.device("cpu")


def config(**changes) -> Training:
    return Training(
        **{
            "steps": 100,
            "batch": 4,
            "lr": 0.1,
            "warmup": 10,
            "ema": 0.9,
            "seed": 0,
            "save_every": 10,
            "picture_every": 50,
        }
        | changes
    )


def test_the_rate_rises_stays_and_falls_to_five_percent():
    t = config()
    assert [rate(t, step) for step in (0, 9, 10, 50)] == pytest.approx([0.01, 0.1, 0.1, 0.1])
    assert rate(t, 75) == pytest.approx(0.1 * (0.05 + 0.95 / 2))
    assert rate(t, 100) == pytest.approx(0.005)
    assert rate(config(decay="none"), 99) == 0.1


def test_the_rate_follows_the_release_for_inpainting():
    """Multipliers 1e-3 to .1 in 1,000 steps, then along a cosine to 1e-4 at 50,000 and on; `lr` is the peak."""
    t = config(steps=200_000, warmup=1000, warmup_from=0.01, decay_from=1000, decay_until=50_000, decay_to=0.001)
    found = [rate(t, step) for step in (0, 499, 999, 25_500, 50_000, 199_999)]
    assert found == pytest.approx([0.1 * m for m in (0.01099, 0.505, 1.0, 0.5005, 0.001, 0.001)])


@pytest.mark.parametrize(
    "changes", [{"decay_from": 5}, {"decay_from": 60, "decay_until": 60}, {"decay": "none", "decay_to": 0.1}]
)
def test_rates_that_contradict_themselves_are_refused(changes):
    with pytest.raises(ValueError, match=r"decay_from and decay_until|is for decay: cosine"):
        config(**changes)


def test_the_gradient_is_clipped_but_its_norm_is_told_as_it_was():
    layer = nn.Linear(1, 1, bias=False)
    before = layer.weight.item()
    t = config(clip=1.0, weight_decay=0.0, decay="none", warmup=0)
    (50 * layer.weight.sum()).backward()
    norm = update(adamw(layer.parameters(), t), t, 20)
    assert norm.item() == pytest.approx(50)
    assert before - layer.weight.item() == pytest.approx(0.1, rel=1e-4)  # Adam's first step is the rate


def test_a_group_with_a_large_gradient_takes_nothing_from_another():
    one, other = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(()))
    t = config(clip=1.0)
    optimiser = adam([{"params": [one]}, {"params": [other]}], t, (0.5, 0.9))
    (0.1 * one.sum() + 1e6 * other).backward()
    norm = update(optimiser, t, 20)
    assert norm.item() == pytest.approx(0.1 * 3**0.5)
    assert one.grad.tolist() == pytest.approx([0.1] * 3)
    assert other.grad.item() == pytest.approx(1.0)


def test_the_average_starts_quickly_and_then_keeps_its_decay():
    source = nn.Linear(1, 1)
    ema = EMA(source, 0.9)
    nn.init.constant_(source.weight, 1.0)
    nn.init.constant_(ema.model.weight, 0.0)
    ema.update(0)
    assert ema.model.weight.item() == pytest.approx(0.9)  # decay (1 + 0) / (10 + 0)
    nn.init.constant_(ema.model.weight, 0.0)
    ema.update(10_000)
    assert ema.model.weight.item() == pytest.approx(0.1)


def test_without_decay_the_average_is_the_model():
    source = nn.Linear(2, 2)
    ema = EMA(source, 0.0)
    nn.init.normal_(source.weight)
    ema.update(3)
    assert torch.equal(ema.model.weight, source.weight)


def test_a_state_comes_back_and_only_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load(CPU) is None
    for step in (10, 20, 30):
        checkpoints.save(step, {"weight": torch.full((2,), float(step)), "rows": [{"step": step}]})
    step, state = checkpoints.load(CPU)
    assert step == 30
    assert state["weight"].tolist() == [30, 30]
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["step-000000020.pt", "step-000000030.pt"]


@pytest.mark.parametrize("suffix", [".pt", ".json"])
def test_a_damaged_state_is_noticed_and_the_one_before_is_used(suffix, tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path)
    for step in (10, 20):
        checkpoints.save(step, {"weight": torch.zeros(2)})
    path = tmp_path / f"step-000000020{suffix}"
    path.write_bytes(path.read_bytes()[:-3])
    with caplog.at_level(logging.WARNING):
        assert checkpoints.load(CPU)[0] == 10
    assert "damaged" in caplog.text


def test_a_loss_that_is_no_number_stops_and_names_step_and_checkpoint():
    finite({"loss": 1.0}, 5, None)
    said = "loss is not a finite number at step 40. The same command goes on from the checkpoint of step 20; "
    with pytest.raises(ValueError, match=re.escape(said)):
        finite({"loss": float("nan"), "lr": 1.0}, 40, 20)


def test_a_history_is_the_same_file_whether_or_not_it_was_interrupted(tmp_path):
    whole, resumed = History(), History([{"step": 20, "loss": 1 / 3}])
    whole.add(20, {"loss": 1 / 3})
    for history in (whole, resumed):
        history.add(1_000_020, {"loss": 2.0, "kl": 1e-7})
    whole.write(tmp_path / "a.csv")
    resumed.write(tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()
    assert (tmp_path / "a.csv").read_text() == "step,loss,kl\n20,0.333333,\n1000020,2,1e-07\n"


def test_the_columns_of_a_history_come_in_the_order_of_the_fullest_row(tmp_path):
    history = History([{"step": 1, "loss": 1.0, "t1": 1.0}, {"step": 2, "loss": 1.0, "t0": 1.0, "t1": 1.0, "val": 2.0}])
    history.write(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == "step,loss,t0,t1,val"
