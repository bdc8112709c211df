"""Two methods' samples and their originals, made small: what the stage export_study reads."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ldm.data.pictures import to_png
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


def struct(image: Image.Image | None) -> dict | None:
    return None if image is None else {"bytes": to_png(image), "path": None}


def write_samples(folder: Path, ids: dict[str, int], amount: float, *, low: int = 4, size: int = SIZE) -> Path:
    """Samples as the stage sample writes them: the originals with noise of `amount`."""
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("id", pa.string()), ("seed", pa.int64()), ("image", picture), ("low_resolution", picture)])
    rows = []
    for id, i in ids.items():
        image = noised(original(i), amount, i).resize((size, size))
        small = original(i).resize((low, low), Image.Resampling.BICUBIC) if low else None
        rows.append({"id": id, "seed": i, "image": struct(image), "low_resolution": struct(small)})
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "samples-00000.parquet")
    write_json(folder / "sampling.json", {"split": "test", "count": len(rows)})
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
        return json.loads(self.key.read_text())["trials"]
