"""The benchmark of a first stage's training measures the real step on both sides, here a small one."""

import math
from pathlib import Path

import pytest
import torch

from ldm.data.pictures import to_float
from ldm.data.shards import Images
from ldm.files import read_json

pytest.importorskip("diffusers", reason="diffusers (the extra `test`) is not installed")
from benchmarks import first_stage

SMALL = ["--device", "cpu", "--size", "32", "--batch", "2", "--pictures", "3", "--small", "--peers", "eager"]
QUICK = ["--warmup", "1", "--steps", "1", "--repeats", "2"]


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_training_beside_the_peer(tmp_path, capsys):
    out = tmp_path / "first_stage.json"
    measured = first_stage.main([*SMALL, *QUICK, "--out", str(out)])
    assert read_json(out) == measured
    middle = measured["median"]
    assert measured["ratio"] == pytest.approx(middle["diffusers, eager"] / middle["ours"])
    assert not measured["failed"]
    assert all(len(repeats) == 2 for repeats in measured["seconds"].values())
    assert measured["loaded_per_second"] > 0
    assert all(math.isfinite(value) for value in measured["losses"]["diffusers, eager"].values())
    assert "times diffusers' best" in capsys.readouterr().out


def test_a_peer_that_does_not_compile_is_named(tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(first_stage, "train_theirs", fails)
    with pytest.raises(SystemExit, match="no compiler"):
        first_stage.main([*SMALL, *QUICK, "--out", str(tmp_path / "first_stage.json")])


def test_both_sides_take_the_same_step(tmp_path: Path):
    """Their first steps differ in the weights and noise drawn alone, which a loss averages over all pixels."""
    config, run = first_stage.row(2, small=True), first_stage.run_of("cpu", "fast")
    prepared = first_stage.prepare(tmp_path / "prepared", 2, 32, workers=1)
    distance = first_stage.random_lpips()
    first_stage.trunk_weights(tmp_path / "vgg16", distance)
    image = to_float(Images(prepared, "train").batch(torch.arange(2)))
    theirs = first_stage.train_theirs(config, run, distance, image, "eager")()
    one = config.model_copy(update={"train": config.train.model_copy(update={"steps": 1})})
    ours = next(first_stage.train_ours(one, run, tmp_path)).scalars
    for name, close in {"reconstruction": 0.1, "discriminator": 0.1, "adaptive_weight": 0.5}.items():
        assert ours[name] == pytest.approx(theirs[name].item(), rel=close), name
