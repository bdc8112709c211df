"""Two methods' samples and their originals, made small: what the stage export_study reads."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ldm.data import samples as shards
from ldm.data.pictures import to_png
from ldm.data.samples import Sample
from ldm.data.shards import Example, write_shards
from ldm.files import write_json, write_manifest
from ldm.study.config import Study

SIZE = 16


def settings(**changes) -> Study:
    """A short study; every key may be changed."""
    values = {
        "task": "super_resolution",
        "dataset": "scenes",
        "first": "careful-model",
        "second": "hasty-model",
        "trials": 4,
        "question": "default",
        "seconds": 0.4,
        "enlarge": 4,
        "practice": 1,
        "catch": 2,
        "catch_pass": 1.0,
        "consent": "default",
        "hand_in": "Send the file to the laboratory.",
        "seed": 9,
    }
    return Study.model_validate(values | changes)


def original(i: int) -> Image.Image:
    """A smooth picture of its own colours, different for each `i`."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    channels = [127 + 120 * np.sin(3 * (x if c % 2 else y) + 2.1 * c + 0.7 * i) for c in range(3)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def noised(image: Image.Image, amount: float, seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, amount, (*image.size, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def holed(image: Image.Image) -> Image.Image:
    """With a grey hole in the middle."""
    shown = image.copy()
    shown.paste((128, 128, 128), (SIZE // 4, SIZE // 4, SIZE // 2, SIZE // 2))
    return shown


def write_samples(
    folder: Path,
    ids: dict[str, int],
    amount: float,
    *,
    channels: str = "low_resolution",
    low: int = 4,
    size: int = SIZE,
    encode: Callable[[Image.Image], bytes] = to_png,
) -> Path:
    """Samples as the stage sample writes them: the originals with noise of `amount`."""
    samples = []
    for id, i in ids.items():
        image = noised(original(i), amount, i).resize((size, size))
        small = original(i).resize((low, low), Image.Resampling.BICUBIC)
        samples.append(
            Sample(
                id=id,
                seed=i,
                image=encode(image),
                label=None,
                caption=None,
                low_resolution=to_png(small) if channels == "low_resolution" else None,
                shown=to_png(holed(original(i))) if channels == "mask" else None,
                mask=None,
            )
        )
    folder.mkdir(parents=True)
    shards.write_samples(folder, samples)
    condition = {"tokens": "none", "channels": channels}
    write_json(folder / "sampling.json", {"split": "test", "count": len(samples), "condition": condition})
    write_manifest(folder)
    return folder


def write_originals(folder: Path, ids: dict[str, int]) -> Path:
    """A prepared data set with one split, `test`."""
    folder.mkdir(parents=True)
    count = write_shards(folder, "test", [Example(id=id, image=to_png(original(i))) for id, i in sorted(ids.items())])
    write_json(folder / "dataset.json", {"size": SIZE, "splits": {"test": count}})
    write_manifest(folder)
    return folder


IDS = {f"source-{i:03d}": i for i in range(40)}


@dataclass(frozen=True)
class Inputs:
    first: Path
    second: Path
    images: Path


@dataclass(frozen=True)
class Exported:
    public: Path
    key: Path

    @property
    def trials(self) -> dict[str, dict[str, str]]:
        """What the key says of every trial of every list."""
        return json.loads(self.key.read_text())["trials"]

    @property
    def lists(self) -> list[list[str]]:
        """Names of the trials of each list."""
        return json.loads(self.key.read_text())["lists"]

    @property
    def page(self) -> dict[str, Any]:
        """What the page is told."""
        text = (self.public / "index.html").read_text()
        return json.loads(text.split('id="study">')[1].split("</script>")[0])
