"""Stopped after any step and gone on with, every long computation ends in the same bytes, however it reads ahead."""

import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest
import torch

from ldm.autoencoder.cache import cache_latents
from ldm.autoencoder.config import Autoencoder, Latents
from ldm.autoencoder.train import train as train_autoencoder
from ldm.config import Run, load, section
from ldm.diffusion.config import Diffusion
from ldm.diffusion.train import train as train_diffusion
from ldm.progress import Progress
from ldm.sampling.config import Samples
from ldm.sampling.sample import sample
from ldm.sources.config import Dataset
from ldm.sources.prepare import prepare
from ldm.sources.raw import opened

STEPS = 5
PARAMS = load(Path(__file__).resolve().parents[2] / "presets/smoke.yaml")
PARAMS["run"]["threads"] = 1  # the quickest for models this small
PARAMS["datasets"]["scenes"]["source"]["count"] = 60
PARAMS["autoencoders"]["kl-f4"]["loss"]["adversarial_start"] = 2
PARAMS["datasets"]["scenes"]["validation"] = 0.2
PARAMS["diffusion"]["text-f4"]["unet"] |= {"channels": 8, "dropout": 0.1}
for model in (PARAMS["autoencoders"]["kl-f4"], PARAMS["diffusion"]["text-f4"]):
    model["train"] |= {"steps": STEPS, "save_every": 2, "warmup": 2, "picture_every": 3}
PARAMS["diffusion"]["text-f4"]["train"]["snapshots"] = [1, 4, STEPS]
PARAMS["diffusion"]["tuned"] = PARAMS["diffusion"]["text-f4"] | {
    "init_from": "text-f4",
    "objective": "v",
    "schedule": {"kind": "cosine", "steps": 100, "zero_terminal_snr": True},
    "snr_gamma": 5.0,
}
PARAMS["diffusion"]["classifier"] = PARAMS["diffusion"]["text-f4"] | {
    "condition": {"tokens": {"kind": "none"}, "channels": {"kind": "none"}},
    "objective": "label",
    "train": PARAMS["diffusion"]["text-f4"]["train"] | {"loss": "cross_entropy"},
}
PARAMS["samples"]["text-f4"] |= {"count": 10, "batch": 4}
RUN = section(PARAMS, Run, "run")
NONE = Path("none")

Stage = Callable[[Path, Path], Iterator[Progress]]
"""A long computation, by the folders of its outputs and of its state."""


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> Iterator[dict[str, Stage]]:
    """The stages that keep their state, on inputs that are whole; `tuned` starts from another diffusion model."""
    threads = torch.get_num_threads()
    made = tmp_path_factory.mktemp("inputs")
    images, coder, latents, model = (made / name for name in ("images", "autoencoder", "latents", "model"))

    def autoencoder(out: Path, resume: Path) -> Iterator[Progress]:
        config = section(PARAMS, Autoencoder, "autoencoders.kl-f4")
        return train_autoencoder(config, RUN, images, NONE, NONE, out, resume)

    def diffusion(out: Path, resume: Path) -> Iterator[Progress]:
        config = section(PARAMS, Diffusion, "diffusion.text-f4")
        return moved(train_diffusion(config, RUN, latents, coder, NONE, out, resume))

    def tuned(out: Path, resume: Path) -> Iterator[Progress]:
        config = section(PARAMS, Diffusion, "diffusion.tuned")
        return moved(train_diffusion(config, RUN, latents, coder, model, out, resume))

    def classifier(out: Path, resume: Path) -> Iterator[Progress]:
        config = section(PARAMS, Diffusion, "diffusion.classifier")
        return moved(train_diffusion(config, RUN, latents, coder, NONE, out, resume))

    def samples(out: Path, resume: Path) -> Iterator[Progress]:
        return sample(section(PARAMS, Samples, "samples.text-f4"), RUN, model, coder, latents, NONE, NONE, out, resume)

    ended(prepare(opened(section(PARAMS, Dataset, "datasets.scenes"), NONE), images, made / "images-state"))
    ended(autoencoder(coder, made / "autoencoder-state"))
    config = section(PARAMS, Latents, "latents.scenes-kl-f4")
    ended(cache_latents(config, RUN, images, coder, NONE, NONE, latents, made / "latents-state"))
    ended(diffusion(model, made / "diffusion-state"))
    yield {
        "autoencoder": autoencoder, "diffusion": diffusion, "tuned": tuned, "classifier": classifier, "samples": samples
    }  # fmt: skip
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(stages, tmp_path_factory) -> Callable[[str], dict[str, bytes]]:
    """What each writes when it is left alone."""
    made: dict[str, dict[str, bytes]] = {}

    def left_alone(kind: str) -> dict[str, bytes]:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            ended(stages[kind](folder / "out", folder / "state"))
            made[kind] = contents(folder / "out")
        return made[kind]

    return left_alone


def moved(records: Iterator[Progress]) -> Iterator[Progress]:
    """Without the record that only has something to say, before the first step."""
    yield from (progress for progress in records if progress.pictures or not progress.notes)


def ended(records: Iterator[Progress]) -> list[int]:
    """How far each record was."""
    return [progress.done for progress in records]


def stopped(records: Iterator[Progress], after: int) -> None:
    """Leave after so many records, in good order."""
    for _ in range(after):
        next(records)
    records.close()  # type: ignore[attr-defined]


def killed(records: Iterator[Progress], after: int, state: Path) -> None:
    """Leave in `state` what is on the disk after so many records, and nothing of what a good order adds to it."""
    for _ in range(after):
        next(records)
    state.mkdir(exist_ok=True)
    there = shutil.copytree(state, state.with_name("there"))
    records.close()  # type: ignore[attr-defined]
    shutil.rmtree(state)
    there.rename(state)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("kind", "stop"),
    [*product(["autoencoder", "tuned"], range(1, STEPS + 1)), ("diffusion", 3), ("classifier", 3)],
)
def test_a_training_killed_after_any_step_ends_in_the_same_bytes(kind, stop, stages, whole, tmp_path):
    killed(stages[kind](tmp_path / "out", tmp_path / "state"), stop, tmp_path / "state")
    assert not (tmp_path / "out").exists()
    saved = STEPS if stop == STEPS else stop - stop % 2
    assert ended(stages[kind](tmp_path / "out", tmp_path / "state")) == [*range(saved + 1, STEPS + 1), STEPS]
    assert contents(tmp_path / "out") == whole(kind)


@pytest.mark.parametrize("kind", ["autoencoder", "tuned"])
def test_a_training_told_to_stop_loses_no_step_and_ends_in_the_same_bytes(kind, stages, whole, tmp_path):
    for done in (1, 3):  # between checkpoints
        stopped(stages[kind](tmp_path / "out", tmp_path / "state"), 1 if done == 1 else 2)
        assert (tmp_path / f"state/step-{done:09d}.json").exists()
    assert ended(stages[kind](tmp_path / "out", tmp_path / "state")) == [*range(4, STEPS + 1), STEPS]
    assert contents(tmp_path / "out") == whole(kind)


def test_a_state_with_a_loss_that_is_no_number_is_not_kept(stages, whole, tmp_path, monkeypatch):
    clip = torch.nn.utils.clip_grad_norm_
    records = stages["diffusion"](tmp_path / "out", tmp_path / "state")
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("nan")))
    next(records)
    records.close()
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    assert not list((tmp_path / "state").glob("step-*"))
    ended(stages["diffusion"](tmp_path / "out", tmp_path / "state"))
    assert contents(tmp_path / "out") == whole("diffusion")


@pytest.mark.parametrize("kind", ["autoencoder", "tuned"])
def test_a_training_stopped_again_and_again_ends_in_the_same_bytes(kind, stages, whole, tmp_path):
    for _ in range(2):  # each time two steps further, to the next checkpoint
        stopped(stages[kind](tmp_path / "out", tmp_path / "state"), 2)
    assert ended(stages[kind](tmp_path / "out", tmp_path / "state")) == [STEPS, STEPS]
    assert contents(tmp_path / "out") == whole(kind)


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("kind", ["autoencoder", "diffusion"])
def test_the_number_of_loader_workers_changes_no_byte(kind, workers, stages, whole, tmp_path, monkeypatch):
    monkeypatch.setenv("LDM_WORKERS", str(workers))
    ended(stages[kind](tmp_path / "out", tmp_path / "state"))
    assert contents(tmp_path / "out") == whole(kind)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_sampling_stopped_after_any_batch_keeps_it_and_ends_in_the_same_bytes(stop, stages, whole, tmp_path):
    stopped(stages["samples"](tmp_path / "out", tmp_path / "state"), stop)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "state").iterdir()}
    assert len(kept) == stop
    records = stages["samples"](tmp_path / "out", tmp_path / "state")
    for _ in range(3):
        next(records)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    ended(records)
    assert contents(tmp_path / "out") == whole("samples")


def test_what_a_diffusion_model_is_made_of_stands_in_its_folder(stages, whole):
    made, tuned = whole("diffusion"), whole("tuned")
    assert {f"ema-{step}.safetensors" for step in (1, 4, STEPS)} < set(made)
    assert made[f"ema-{STEPS}.safetensors"] == made["ema.safetensors"] != made["ema-4.safetensors"]
    assert {name for name in made if name.startswith("tokenizer/")}
    assert json.loads(made["config.json"])["initial_identity"] is None
    assert json.loads(tuned["config.json"])["initial_identity"] == hashlib.sha256(made["manifest.json"]).hexdigest()
    rows = list(csv.DictReader(made["history.csv"].decode().splitlines()))
    assert [int(row["step"]) for row in rows] == [2, 3, 4, 5]
    assert [bool(row["val_loss"]) for row in rows] == [False, True, False, True]
    assert all(row["loss"] and row["gradient_norm"] and any(row[f"loss_t{i}"] for i in (1, 2, 3)) for row in rows)
