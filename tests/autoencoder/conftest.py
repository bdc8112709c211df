"""Pictures to train on, and first stages small enough for seconds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ldm.autoencoder.config import Autoencoder
from ldm.config import Run, check
from ldm.data.pictures import encode, to_uint8
from ldm.data.randomness import generator
from ldm.data.shards import Example, write_shards
from ldm.files import write_json, write_manifest

RUN = Run(mode="exact", device="cpu", threads=1, instructions="avx2")
ARCHITECTURE = {
    "channels": 8,
    "channel_mult": [1, 2],
    "num_res_blocks": 1,
    "attention_factors": [],
    "mid_attention": True,
    "latent_channels": 3,
}
LOSS = {
    "perceptual_weight": 0.0,
    "l2_weight": 0.0,
    "adversarial_weight": 0.5,
    "adversarial_start": 2,
    "discriminator_channels": 8,
    "discriminator_layers": 1,
}
TRAIN = {
    "steps": 6,
    "batch": 4,
    "lr": 1e-3,
    "warmup": 1,
    "betas": [0.5, 0.9],
    "ema": 0.9,
    "seed": 1,
    "flip": True,
    "save_every": 2,
    "picture_every": 3,
}
KINDS: dict[str, dict[str, Any]] = {
    "kl": {"kind": "kl", "model": ARCHITECTURE, "loss": LOSS | {"kl_weight": 1e-6}},
    "vq": {"kind": "vq", "model": ARCHITECTURE | {"codebook": {"size": 32, "revive": 2}}, "loss": LOSS},
}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """`setup` sets the threads of the whole process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """A prepared folder of soft noise, 16 pixels a side: 40 pictures to train on, 12 held back."""
    folder = tmp_path_factory.mktemp("prepared") / "soft"
    folder.mkdir()
    splits = {"train": range(40), "validation": range(40, 52)}
    for split, positions in splits.items():
        write_shards(folder, split, (Example(id=f"{i:03d}", image=encode(_soft(i))) for i in positions))
    counts = {split: len(positions) for split, positions in splits.items()}
    classes = {"classes": None, "box_classes": None, "label_map_classes": None}
    write_json(folder / "dataset.json", {"size": 16, "splits": counts} | classes)
    write_manifest(folder)
    return folder


def _soft(index: int) -> Tensor:
    coarse = torch.rand((3, 4, 4), generator=generator("soft", index))
    return to_uint8(2 * F.interpolate(coarse[None], scale_factor=4, mode="bilinear")[0] - 1)


@pytest.fixture(scope="session")
def row() -> Callable[..., Autoencoder]:
    """A row of `autoencoders` of one kind, with changes to its model, loss and train."""

    def made(kind: str, **changes: dict[str, Any]) -> Autoencoder:
        values = KINDS[kind] | {"dataset": "soft", "init_from": "none", "perceptual": "none", "train": TRAIN}
        values = values | {part: values[part] | change for part, change in changes.items()}
        return check(values, Autoencoder, "autoencoders.small")

    return made
