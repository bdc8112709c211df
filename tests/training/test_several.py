"""Two real processes that share a training: exact, the bytes of one; fast, its losses; each goes on from the other."""

import csv
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ldm.autoencoder.cache import cache_latents
from ldm.autoencoder.config import Latents
from ldm.config import Run, check, load, section
from ldm.diffusion.config import DiffusionTraining
from ldm.sources.config import Dataset
from ldm.sources.prepare import prepare
from ldm.sources.raw import opened
from ldm.training.several import Several
from tests.training.shared import NONE, Training, together

PARAMS = load(Path(__file__).resolve().parents[2] / "presets/smoke.yaml")
PARAMS["run"]["threads"] = 1
PARAMS["datasets"]["scenes"] |= {"validation": 0.2}
PARAMS["datasets"]["scenes"]["source"]["count"] = 60
SHORT = {"steps": 5, "warmup": 2, "save_every": 2, "picture_every": 10, "batch": 8}
KL: dict[str, Any] = PARAMS["autoencoders"]["kl-f4"]
KL["train"] |= SHORT | {"flip": True}
KL["loss"] |= {"adversarial_start": 2, "adversarial_weight": 0.5, "learn_logvar": True}
VQ = deepcopy(KL) | {"kind": "vq"}
VQ["model"] |= {"codebook": {"size": 32, "revive": 2}}
del VQ["loss"]["kl_weight"]
TEXT: dict[str, Any] = PARAMS["diffusion"]["text-f4"]
TEXT["train"] |= SHORT | {"snapshots": [4]}
TEXT["unet"]["channels"] = 8
ROWS = {"kl": KL, "vq": VQ, "text": TEXT}


def row(kind: str, micro_batches: int = 1, dropout: float = 0.0) -> dict[str, Any]:
    made = deepcopy(ROWS[kind])
    made["train"]["micro_batches"] = micro_batches
    if kind == "text":
        made["unet"]["dropout"] = dropout
    if kind == "kl":
        made["train"]["crop"] = 8
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Pictures, an autoencoder and its latents."""
    folder, threads = tmp_path_factory.mktemp("made"), torch.get_num_threads()
    run = section(PARAMS, Run, "run")
    list(prepare(opened(section(PARAMS, Dataset, "datasets.scenes"), NONE), folder / "images", folder / "state"))
    Training(KL, str(folder), str(folder / "autoencoder")).run()
    config, coder = section(PARAMS, Latents, "latents.scenes-kl-f4"), folder / "autoencoder"
    list(cache_latents(config, run, folder / "images", coder, NONE, NONE, folder / "latents", folder / "state"))
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="module")
def trained(made, tmp_path_factory) -> dict[str, Path]:
    """By `KIND-MODE-COUNT`, what one process made and what two made, and what they made in turn."""
    folder = tmp_path_factory.mktemp("trained")

    def named(name: str, kind: str, **changes: Any) -> Training:
        exact = name.startswith("exact")
        values = row(kind, micro_batches=4, dropout=0.1) if exact else row(kind)
        return Training(values, str(made), str(folder / f"{kind}-{name}"), mode="exact" if exact else "fast", **changes)

    ways = [(mode, kind) for mode in ("exact", "fast") for kind in ROWS]
    handed = [named(f"{mode}-turns", kind) for mode, kind in ways]  # two, one, two processes
    whole = [named(f"{mode}-two", kind) for mode, kind in ways]
    ended(together(2, [*whole, *(replace(training, records=_notes(training) + 2) for training in handed)]))
    # In a process of its own as well: one that has run other tests may compute other last digits.
    alone = [named(f"{mode}-one", kind) for mode, kind in ways]
    ended(together(1, [*(replace(training, records=_notes(training) + 2) for training in handed), *alone]))
    ended(together(2, handed))
    return {path.name: path for path in folder.iterdir() if (path / "manifest.json").is_file()}


def _notes(training: Training) -> int:
    """The record before the first step, which only has something to say."""
    return 1 if "unet" in training.row else 0


def ended(processes: list[Any]) -> None:
    for process in processes:
        assert process.returncode == 0, process.stderr[-3000:]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def losses(folder: Path) -> list[dict[str, float]]:
    rows = csv.DictReader((folder / "history.csv").open())
    return [{name: float(value) for name, value in row.items() if value} for row in rows]


@pytest.mark.parametrize("kind", ROWS)
def test_exact_the_number_of_processes_changes_no_byte(kind, trained):
    one = contents(trained[f"{kind}-exact-one"])
    assert one == contents(trained[f"{kind}-exact-two"])
    assert one == contents(trained[f"{kind}-exact-turns"])


@pytest.mark.parametrize("way", ["two", "turns"])
@pytest.mark.parametrize("kind", ROWS)
def test_fast_two_processes_see_what_one_sees(kind, way, trained):
    """The same pictures in the same order, noise, steps, dropped conditions, flips and revived codes."""
    one, two = losses(trained[f"{kind}-fast-one"]), losses(trained[f"{kind}-fast-{way}"])
    assert [row.keys() for row in one] == [row.keys() for row in two]
    for mine, theirs in zip(one, two, strict=True):
        for name, value in mine.items():
            assert theirs[name] == pytest.approx(value, rel=2e-3, abs=1e-5), f"{name} at step {mine['step']}"
    name = "model.safetensors"
    ours, theirs = load_file(trained[f"{kind}-fast-one"] / name), load_file(trained[f"{kind}-fast-{way}"] / name)
    for tensor in ours:
        torch.testing.assert_close(ours[tensor], theirs[tensor], rtol=1e-2, atol=2e-4)


@pytest.mark.parametrize("kind", ROWS)
def test_micro_batches_change_no_more_than_the_order_of_sums(kind, made, trained, tmp_path):
    """With and without the detour of the adaptive weight."""
    Training(row(kind, micro_batches=4), str(made), str(tmp_path / "out"), mode="fast").run()
    for mine, theirs in zip(losses(trained[f"{kind}-fast-one"]), losses(tmp_path / "out"), strict=True):
        assert theirs == pytest.approx(mine, rel=2e-3, abs=1e-5)


def several(mode: str, count: int, monkeypatch: Any, **train: int) -> Callable[[], Several]:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", str(count))
    run = Run(mode=mode, device="cpu", threads=1, instructions="avx2")  # type: ignore[arg-type]
    return lambda: Several(run, check(TEXT["train"] | train, DiffusionTraining, "train"), torch.device("cpu"))


def test_exact_refuses_processes_that_its_micro_batches_do_not_fill(monkeypatch):
    with pytest.raises(ValueError, match=r"^train.micro_batches: 1 cannot be shared by 2 pro.* a multiple of 2"):
        several("exact", 2, monkeypatch)()
    with pytest.raises(ValueError, match=r"^train.micro_batches: 4 cannot be shared by 3 processes"):
        several("exact", 3, monkeypatch, micro_batches=4)()


def test_fast_refuses_processes_that_cannot_have_as_many_pictures_each(monkeypatch):
    with pytest.raises(ValueError, match=r"^train.batch: 8 in 3 micro-batches cannot be shared by 3 processes"):
        several("fast", 3, monkeypatch)()


def test_a_batch_that_micro_batches_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="batch 8 is not a multiple of micro_batches 3"):
        check(TEXT["train"] | {"micro_batches": 3}, DiffusionTraining, "train")
