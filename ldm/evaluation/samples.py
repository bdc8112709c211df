"""The evaluate stage: figures of samples, against a reference of real pictures and against their own conditions."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow.parquet as pq
import torch
from jaxtyping import UInt8
from torch import Tensor

from ldm.config import Run
from ldm.data.pictures import decode, psnr
from ldm.data.shards import Images
from ldm.evaluation.colour import CaptionColourFigure
from ldm.evaluation.config import SampleEvaluation
from ldm.evaluation.features import Extractor, extractor
from ldm.evaluation.reconstruction import PerceptualDistance, central, enlarge, ssim
from ldm.evaluation.statistics import RealStatistics, Statistics, padded, rounded
from ldm.files import identity, read_json, write_json
from ldm.progress import Progress
from ldm.training.exact import setup

COLUMNS = ["id", "image", "caption", "low_resolution"]
Row = Mapping[str, Any]


@runtime_checkable
class Figure(Protocol):
    """A group of figures, fed the samples batch by batch: pixels padded to the batch, and the rows that are real."""

    def add(self, pixels: UInt8[Tensor, "batch 3 h w"], rows: Sequence[Row]) -> None: ...
    def figures(self) -> dict[str, float]: ...
    def about(self) -> dict[str, Any]: ...


class Fidelity:
    """Distances of the samples' features to a reference, and with Inception their score."""

    def __init__(self, reference: Path, extract: Extractor, device: torch.device) -> None:
        self._real, self._extract, self._device = RealStatistics.load(reference, extract), extract, device
        self._statistics, self._logits = Statistics(), list[Tensor]()

    def add(self, pixels: UInt8[Tensor, "batch 3 h w"], rows: Sequence[Row]) -> None:
        features, logits = self._extract(pixels.to(self._device))
        self._statistics.add(features[: len(rows)])
        if logits is not None:
            self._logits.append(logits[: len(rows)])

    def figures(self) -> dict[str, float]:
        logits = torch.cat(self._logits) if self._logits else None
        return self._real.fidelity(self._statistics, logits, self._extract)

    def about(self) -> dict[str, Any]:
        return self._real.describe(self._statistics.count)


class Paired:
    """Each sample against its original, and where there is one, the enlarged low-resolution image under `bicubic_`.

    Samples of a smaller size were made from the original's central square.
    """

    def __init__(self, images: Path, split: str, perceptual: PerceptualDistance) -> None:
        self._images, self._perceptual = Images(images, split), perceptual
        self._index = {id: index for index, id in enumerate(self._images.ids)}
        self._values: dict[str, list[float]] = {}

    def add(self, pixels: UInt8[Tensor, "batch 3 h w"], rows: Sequence[Row]) -> None:
        originals = torch.stack([central(self._original(row), *pixels.shape[2:]) for row in rows])
        self._measure("", pixels[: len(rows)], originals, batch=len(pixels))
        low = [row["low_resolution"] for row in rows]
        if None not in low:
            bicubic = torch.stack([enlarge(decode(image["bytes"]), like=originals[0]) for image in low])
            self._measure("bicubic_", bicubic, originals, batch=len(pixels))

    def _original(self, row: Row) -> UInt8[Tensor, "3 h w"]:
        if row["id"] not in self._index:
            raise ValueError(f"sample of {row['id']}: there is no such picture in the split that it was drawn for")
        return self._images.pixels(self._index[row["id"]])

    def _measure(self, prefix: str, made: Tensor, real: Tensor, batch: int) -> None:
        distance = self._perceptual(padded(made, batch), padded(real, batch))[: len(real)]
        values = {"psnr": psnr(made, real), "ssim": ssim(made, real), self._perceptual.key: distance}
        for key, value in values.items():
            self._values.setdefault(prefix + key, []).extend(value.tolist())

    def figures(self) -> dict[str, float]:
        return {key: sum(values) / len(values) for key, values in self._values.items()}

    def about(self) -> dict[str, Any]:
        return dict(self._perceptual.about)


def evaluate(
    config: SampleEvaluation,
    run: Run,
    samples: Path,
    images: Path,
    reference: Path,
    features: Path,
    perceptual: Path,
    clip: Path,
    out: Path,
) -> Iterator[Progress]:
    """Measure the samples in the folder `samples` and write {figures, about} to the file `out`.

    `images` are the prepared pictures that the samples' conditions came from, `reference` a folder that the reference
    stage wrote with the same `features`. The figures are those named in `config.figures`.
    """
    device = setup(run)
    identity(samples)
    sampling = read_json(samples / "sampling.json")
    split = sampling["split"]
    if "paired" in config.figures and sampling["condition"]["channels"] == "none":
        raise ValueError(f"{samples}: paired figures need samples made from a picture; leave paired out of figures")
    if "paired" in config.figures and sampling.get("random_views"):
        raise ValueError(
            f"{samples}: made from training pictures as they were mirrored or cropped, which are not the originals; "
            "leave paired out of figures, or sample another split"
        )
    choose: dict[str, Callable[[], Figure]] = {
        "fidelity": lambda: Fidelity(reference, extractor(features, device), device),
        "paired": lambda: Paired(images, split, PerceptualDistance(perceptual, device)),
        "caption_colour": lambda: CaptionColourFigure(images, split),
    }
    made = [choose[name]() for name in config.figures]
    files = sorted(samples.glob("samples-*.parquet"))
    total, done = sum(pq.read_metadata(file).num_rows for file in files), 0
    if total < 8:
        raise ValueError(f"{samples}: {total} samples; figures need at least 8")
    rows = (row for file in files for row in _rows(file))
    while chunk := list(itertools.islice(rows, config.batch)):
        pixels = padded(torch.stack([decode(row["image"]["bytes"]) for row in chunk]), config.batch)
        for figure in made:
            figure.add(pixels, chunk)
        done += len(chunk)
        yield Progress(done=done, total=total, unit="pictures")
    figures = {key: rounded(value) for figure in made for key, value in figure.figures().items()}
    about: dict[str, Any] = {"count": total, "batch": config.batch, "sampling": sampling, "samples": identity(samples)}
    for figure in made:
        about |= figure.about()
    write_json(out, {"figures": figures, "about": about})


def _rows(file: Path) -> Iterator[Row]:
    with pq.ParquetFile(file) as shard:
        for group in shard.iter_batches(batch_size=64, columns=COLUMNS, use_threads=False):
            yield from group.to_pylist()
