"""A small prepared data set of drawn scenes, and samples in the form that the sample stage writes."""

import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ldm.config import Run
from ldm.data.pictures import encode, to_png
from ldm.data.samples import Sample, mask_png, write_samples
from ldm.data.shards import Example, write_shards
from ldm.files import write_json, write_manifest
from ldm.sources.config import Drawn
from ldm.sources.drawn import draw, scene
from ldm.sources.palette import COLOURS, GROUNDS, PAIRS

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SIZE = 24


@pytest.fixture(scope="session")
def run() -> Run:
    return Run(mode="exact", device="cpu", threads=2, instructions="avx2")


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    """A prepared folder: 24 scenes to test on, 24 others to train on."""
    folder = tmp_path_factory.mktemp("prepared") / "scenes"
    folder.mkdir()
    config = Drawn(kind="drawn", count=48, objects=1, seed=1, held_out=[])
    for split, positions in (("test", range(24)), ("train", range(24, 48))):
        write_shards(folder, split, (_example(config, i) for i in positions), classes=PAIRS)
    info = {
        "size": SIZE,
        "splits": {"test": 24, "train": 24},
        "classes": list(PAIRS),
        "label_map_classes": ["ground", *PAIRS],
        "palette": COLOURS,
        "grounds": GROUNDS,
    }
    write_json(folder / "dataset.json", info)
    write_manifest(folder)
    return folder


def _example(config: Drawn, index: int) -> Example:
    drawn = scene(config, index)
    picture, labels = draw(drawn, SIZE)
    return Example(id=f"{index:03d}", image=to_png(picture), caption=drawn.caption, label_map=to_png(labels))


@pytest.fixture(scope="session")
def none(tmp_path_factory) -> Path:
    """The weights folder that stands for no weights."""
    folder = tmp_path_factory.mktemp("weights") / "none"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def sampled() -> Callable[..., Path]:
    """Writes pictures as the sample stage does."""
    return _write_samples


def _write_samples(
    folder: Path,
    ids: Sequence[str],
    pictures: Sequence[Tensor],
    *,
    split: str = "test",
    captions: Sequence[str] | None = None,
    low: Sequence[Tensor] | None = None,
    masks: Sequence[Tensor] | None = None,
    channels: str = "low_resolution",
    **options: Any,
) -> Path:
    folder.mkdir()
    made = (
        Sample(
            id=id,
            seed=position,
            image=encode(picture),
            label=None,
            caption=captions[position] if captions else None,
            low_resolution=None if low is None else encode(low[position]),
            shown=None,
            mask=None if masks is None else mask_png(masks[position]),
        )
        for position, (id, picture) in enumerate(zip(ids, pictures, strict=True))
    )
    write_samples(folder, made)
    how = {"sampler": {"kind": "ddim", "num_steps": 20, "eta": 0.0}, "guidance": 1.0, "seed": 0, "split": split}
    write_json(folder / "sampling.json", how | {"condition": {"tokens": "none", "channels": channels}} | options)
    write_manifest(folder)
    return folder


@pytest.fixture(scope="session")
def shared() -> Callable[[Path], Path]:
    """A file of ../shared/data, or the test is skipped."""

    def found(path: Path) -> Path:
        if not (SHARED / path).exists():
            pytest.skip("needs ../shared/data")
        return SHARED / path

    return found


@pytest.fixture(scope="session")
def photographs() -> Callable[..., Tensor]:
    """Real photographs 32 x 32, uint8: so many of the test (or train) part of CIFAR-10."""
    return _cifar10


def _cifar10(count: int, part: str = "test") -> Tensor:
    archive = next((SHARED / "cifar10").glob(f"*{part}*.tar.gz"), None)
    if archive is None:
        pytest.skip("needs ../shared/data")
    with tarfile.open(archive) as tar:
        members = sorted((m for m in tar.getmembers() if m.name.endswith(".jpg")), key=lambda m: m.name)
        chosen = members[:: len(members) // count][:count]
        pictures = [
            np.array(Image.open(tar.extractfile(m)).convert("RGB")) for m in sorted(chosen, key=lambda m: m.offset)
        ]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
