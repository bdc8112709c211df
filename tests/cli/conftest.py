"""A workplace with small models that the stages themselves made, and the command line called in it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from ldm.autoencoder.cache import cache_latents
from ldm.autoencoder.config import Autoencoder, Latents
from ldm.autoencoder.train import train as train_autoencoder
from ldm.cli import app
from ldm.config import Run, check
from ldm.data.pictures import from_image, read
from ldm.diffusion.config import Diffusion
from ldm.diffusion.train import train as train_diffusion
from ldm.progress import Progress
from ldm.sources.config import Dataset
from ldm.sources.prepare import prepare
from ldm.sources.raw import opened
from tests.autoencoder.conftest import ARCHITECTURE, LOSS, TRAIN
from tests.clips import write_clip
from tests.diffusion.small import ROW

RUN = Run(mode="exact", device="cpu", threads=1, instructions="native")
SIDE = 16
NONE = {"kind": "none"}
JOINT = {"drop": 0.1, "width": 8, "layers": 1, "heads": 2, "head_width": 4, "dropout": 0.0}
CONDITIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": (NONE, NONE),
    "label": ({"kind": "label", "drop": 0.1, "width": 8}, NONE),
    "text": ({"kind": "text"} | JOINT, NONE),
    "layout": ({"kind": "layout"} | JOINT, NONE),
    "words": ({"kind": "clip_text", "drop": 0.1}, NONE),
    "likeness": ({"kind": "clip_image", "drop": 0.1}, NONE),
    "upscaling": (NONE, {"kind": "low_resolution", "drop": 0.0}),
    "map": (NONE, {"kind": "label_map", "drop": 0.0}),
    "inpainting": ({"kind": "text"} | JOINT, {"kind": "mask", "drop": 0.0}),
    "colours": (NONE, {"kind": "grey", "drop": 0.0}),
    "plain-f1": (NONE, NONE),
    "classifier": (NONE, NONE),
}
"""Tokens and channels of each model."""
PLAIN_LOSS = LOSS | {"kl_weight": 1e-6, "adversarial_weight": 0.0}
STAGES = {
    "kl": {"kind": "kl", "model": ARCHITECTURE, "loss": LOSS | {"kl_weight": 1e-6}},
    "other": {"kind": "kl", "model": ARCHITECTURE, "loss": LOSS | {"kl_weight": 1e-6}},
    "wide": {"kind": "kl", "model": ARCHITECTURE | {"channels": 128, "channel_mult": [1, 1]}, "loss": PLAIN_LOSS},
    "pixels": {"kind": "identity"},
}


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models/ and a CLIP, as a checkout has them after `dvc repro`."""
    root = tmp_path_factory.mktemp("workplace")
    threads = torch.get_num_threads()
    none, images = root / "none", root / "images"
    source = {"kind": "drawn", "count": 24, "objects": 1, "seed": 1, "held_out": []}
    dataset = {"raw": "none", "source": source, "size": SIDE, "validation": 0.1, "test": 0.1, "on_bad_image": "stop"}
    end(prepare(opened(check(dataset, Dataset, ""), none), images, root / "state"))
    clip = write_clip(root / "clip")
    for number, (name, stage) in enumerate(STAGES.items()):
        row = stage | {"dataset": "drawn", "perceptual": "none", "init_from": "none"}
        if stage["kind"] != "identity":
            row |= {"train": TRAIN | {"steps": 2, "seed": number}}
        config = check(row, Autoencoder, "")
        end(
            train_autoencoder(
                config, RUN, images, none, none, root / "models/autoencoders" / name, root / f"resume-{name}"
            )
        )
    cached = {
        "dataset": "drawn", "vocabulary": "none", "clip": "clip", "tokens": {"length": 8, "vocabulary_size": 128},
        "layout": {"boxes": 2, "vocabulary_size": 64}, "label_map": True, "mask": {"style": "training"}, "grey": True,
        "low_resolution": {"factor": 2, "degradation": "bicubic"}, "draws": 1, "flip": False, "batch": 8, "seed": 1,
    }  # fmt: skip
    for stage in ("kl", "pixels"):
        config = check(cached | {"autoencoder": stage}, Latents, "")
        coder = root / "models/autoencoders" / stage
        resume = root / f"resume-latents-{stage}"
        end(cache_latents(config, RUN, images, coder, none, clip, root / "latents" / stage, resume))
    for name, (tokens, channels) in CONDITIONS.items():
        stage = "pixels" if name == "plain-f1" else "kl"
        row = ROW | {"condition": {"tokens": tokens, "channels": channels}, "latents": "x", "autoencoder": stage}
        row |= {"train": ROW["train"] | {"steps": 3, "lr": 0.03, "snapshots": [1]}}
        if name == "classifier":
            row |= {"objective": "label", "train": row["train"] | {"loss": "cross_entropy"}}
        config = check(row, Diffusion, "")
        coder, out = root / "models/autoencoders" / stage, root / "models/diffusion" / name
        end(train_diffusion(config, RUN, root / "latents" / stage, coder, none, out, root / f"resume-{name}"))
    torch.set_num_threads(threads)
    return root


def end(records: Iterator[Progress]) -> None:
    for _ in records:
        pass


@pytest.fixture
def ldm(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`ldm(*arguments)` in a folder of its own, where models/ is the workplace's."""
    (tmp_path / "models").symlink_to(workplace / "models")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture
def drawn(ldm: Callable[..., Result]) -> Callable[..., list[Path]]:
    """The files that a command says it wrote; quick."""

    def call(command: str, *arguments: object) -> list[Path]:
        result = ldm(command, *arguments, "--steps", 2, "--device", "cpu")
        assert result.exit_code == 0, result.output
        paths = [Path(line) for line in result.stdout.splitlines()]
        assert all(path.is_file() for path in paths)
        return paths

    return call


def pixels(path: Path) -> torch.Tensor:
    return from_image(read(path.read_bytes())).int()
