"""Samples against the originals that they were made from, and apart by how much of a picture was hidden."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64, UInt8
from torch import Tensor

from ldm.data.pictures import PSNR_OF_EQUAL, decode, decode_map, psnr
from ldm.data.shards import Images
from ldm.evaluation.features import Extractor
from ldm.evaluation.figure import Figure, Interval, Means, Row
from ldm.evaluation.reconstruction import PerceptualDistance, central, enlarge, ssim
from ldm.evaluation.shared import Measured
from ldm.evaluation.statistics import Beside, RealStatistics, Statistics, padded, rounded

EDGES = np.linspace(0, 1, 11)
"""LaMa's bins of the hidden share of a picture (arXiv 2109.07161); each holds its lower edge, the last both."""
FEWEST = 50
"""Pictures in a bin from which its Fréchet distances are given."""

Batch = UInt8[Tensor, "b 3 h w"]


class Distances:
    """Fréchet distances of fills: to the reference, and to their own originals, which is LaMa's and table 7's FID.

    To the originals much less is asked: all that was not hidden is the same on both sides. Beside either stand real
    pictures against real ones and training pictures against held-out ones, as many as were measured here.
    """

    def __init__(self, real: RealStatistics, extract: Extractor) -> None:
        self._real, self._key, self._key_of_pairs = real, extract.key("fd"), f"{extract.key('fd')}_originals"
        self._made, self._originals = Statistics(), Statistics()

    def add(self, made: Float[Tensor, "b d"], originals: Float[Tensor, "b d"]) -> None:
        self._made.add(made)
        self._originals.add(originals)

    @cached_property
    def _beside_originals(self) -> dict[str, Beside]:
        return self._real.beside_at(self._made.count, self._made.count)

    @cached_property
    def _beside_reference(self) -> dict[str, Beside]:
        return self._real.beside_at(self._made.count, self._real.about["count"])

    def to_originals(self) -> dict[str, float]:
        """The distance, and beside it those of real pictures that are not each other's originals, equally many."""
        key = self._key_of_pairs
        return {key: self._real.between(self._originals, self._made)} | _under(key, self._beside_originals)

    def interval_to_originals(self) -> dict[str, Interval]:
        found = self._real.between_interval(self._originals, self._made)
        return {self._key_of_pairs: found} if found else {}

    def figures(self) -> dict[str, float]:
        found = {self._key: self._real.distance(self._made)} | _under(self._key, self._beside_reference)
        return found | self.to_originals()

    def intervals(self) -> dict[str, Interval]:
        found = self._real.distance_interval(self._made)
        return ({self._key: found} if found else {}) | self.interval_to_originals()

    def beside_originals(self) -> dict[str, Any]:
        """Of how many pictures that is which stands beside the distance, for `about`."""
        return {self._key_of_pairs: _counts(self._beside_originals)}

    def beside(self) -> dict[str, Any]:
        return {self._key: _counts(self._beside_reference)} | self.beside_originals()


def _under(key: str, beside: Mapping[str, Beside]) -> dict[str, float]:
    return {f"{key}_{name}": found.distance for name, found in beside.items()}


def _counts(beside: Mapping[str, Beside]) -> dict[str, Any]:
    return {name: {"count": found.count, "against": found.against} for name, found in beside.items()}


class Holes:
    """What is measured of fills besides: in the hole, and apart by how much of the picture the hole hid."""

    NAMES = ("hole_bins", "hole_made", "hole_originals")

    def __init__(self, reference: Path, extract: Extractor, device: torch.device) -> None:
        self._real, self._extract, self._device = RealStatistics.load(reference, extract), extract, device
        self._all = Distances(self._real, extract)
        self._bins: dict[int, tuple[Means, Distances]] = {}
        self._counts: dict[int, int] = {}

    def measure(
        self,
        masks: Bool[Tensor, "b h w"],
        made: UInt8[Tensor, "batch 3 h w"],
        real: UInt8[Tensor, "batch 3 h w"],
    ) -> dict[str, Tensor]:
        """Under NAMES; pictures are padded to the batch."""
        features = [self._extract(pixels.to(self._device))[0][: len(masks)] for pixels in (made, real)]
        return dict(zip(self.NAMES, [area_bins(masks), *features], strict=True))

    def add(self, ids: Sequence[str], values: Mapping[str, Tensor], measured: Measured) -> None:
        """`values` has one number a picture for each figure."""
        bins, *features = (measured[name] for name in self.NAMES)
        self._all.add(features[0], features[1])
        for number in bins.unique().tolist():
            here = bins == number
            means, distances = self._bins.setdefault(number, (Means(), Distances(self._real, self._extract)))
            inside = [id for id, wanted in zip(ids, here.tolist(), strict=True) if wanted]
            means.add(inside, {key: numbers[here] for key, numbers in values.items()})
            distances.add(*(each[here] for each in features))
            self._counts[number] = self._counts.get(number, 0) + len(inside)

    def figures(self) -> dict[str, float]:
        return self._all.to_originals()

    def intervals(self) -> dict[str, Interval]:
        return self._all.interval_to_originals()

    def about(self) -> dict[str, Any]:
        bins = [self._bin(number) for number in sorted(self._bins)]
        return {"beside": self._all.beside_originals(), "area_bins": bins}

    def _bin(self, number: int) -> dict[str, Any]:
        (means, distances), count = self._bins[number], self._counts[number]
        figures, intervals, beside = means.figures(), means.intervals(), dict[str, Any]()
        if count >= FEWEST:
            figures, intervals = figures | distances.figures(), intervals | distances.intervals()
            beside = distances.beside()
        return {
            "beside": beside,
            "low": round(float(EDGES[number]), 1),
            "high": round(float(EDGES[number + 1]), 1),
            "count": count,
            "figures": {key: rounded(value) for key, value in figures.items()},
            "intervals": {key: [rounded(end) for end in ends] for key, ends in intervals.items()},
        }


class Paired(Figure):
    """Each sample against its original, and where there is one, the enlarged low-resolution image under `bicubic_`.

    psnr, ssim and the perceptual distance are of whole pictures, as in the paper; where a hole was filled, `psnr_hole`
    is of its pixels alone. (SSIM and LPIPS look at neighbourhoods, which a hole's edge cuts.) Samples of a smaller size
    were made from the original's central square.
    """

    def __init__(self, images: Path, split: str, perceptual: PerceptualDistance, holes: Holes | None = None) -> None:
        self._images, self._perceptual, self._holes = Images(images, split), perceptual, holes
        self._index = {id: index for index, id in enumerate(self._images.ids)}
        self._means, self._originals = Means(), set[str]()

    def measure(self, pixels: UInt8[Tensor, "batch 3 h w"], rows: Sequence[Row]) -> Measured:
        originals = torch.stack([central(self._original(row), *pixels.shape[2:]) for row in rows])
        batch, made = len(pixels), pixels[: len(rows)]
        measured = self._compared(made, originals, batch)
        if self._holes is not None:
            masks = torch.stack([_mask(row, *pixels.shape[2:]) for row in rows])
            measured["psnr_hole"] = psnr_within(made, originals, masks)
            measured |= self._holes.measure(masks, pixels, padded(originals, batch))
        low = [row["low_resolution"] for row in rows]
        if None not in low:
            bicubic = torch.stack([enlarge(decode(image["bytes"]), like=originals[0]) for image in low])
            beside = self._compared(bicubic, originals, batch)
            measured |= {f"bicubic_{key}": value for key, value in beside.items()}
        return measured

    def add(self, rows: Sequence[Row], measured: Measured) -> None:
        ids = [row["id"] for row in rows]
        self._originals |= set(ids)
        values = {key: numbers for key, numbers in measured.items() if key not in Holes.NAMES}
        if self._holes is not None:
            of_fills = {key: numbers for key, numbers in values.items() if not key.startswith("bicubic_")}
            self._holes.add(ids, of_fills, measured)
        self._means.add(ids, values)

    def _original(self, row: Row) -> UInt8[Tensor, "3 h w"]:
        if row["id"] not in self._index:
            raise ValueError(f"sample of {row['id']}: there is no such picture in the split that it was drawn for")
        return self._images.pixels(self._index[row["id"]])

    def _compared(self, made: Batch, real: Batch, batch: int) -> dict[str, Tensor]:
        distance = self._perceptual(padded(made, batch), padded(real, batch))[: len(real)]
        return {"psnr": psnr(made, real), "ssim": ssim(made, real), self._perceptual.key: distance}

    def figures(self) -> dict[str, float]:
        return self._means.figures() | (self._holes.figures() if self._holes else {})

    def intervals(self) -> dict[str, Interval]:
        return self._means.intervals() | (self._holes.intervals() if self._holes else {})

    def about(self) -> dict[str, Any]:
        paired = {"originals": len(self._originals)}
        return {**self._perceptual.about, "paired": paired} | (self._holes.about() if self._holes else {})


def area_bins(masks: Bool[Tensor, "b h w"]) -> Int64[Tensor, " b"]:
    """In which of LaMa's bins each picture is, by the share of it that is hidden."""
    shares = masks.double().mean((1, 2)).numpy()
    return torch.from_numpy(np.minimum(np.searchsorted(EDGES, shares, side="right") - 1, len(EDGES) - 2))


def psnr_within(image: Batch, other: Batch, masks: Bool[Tensor, "b h w"]) -> Float64[Tensor, " b"]:
    """PSNR of each pair in dB over the pixels of its mask alone, which has some."""
    error = (image.double() - other.double()).square().mean(1)
    inside = (error * masks).sum((1, 2)) / masks.sum((1, 2))
    return (10 * torch.log10(255.0**2 / inside)).clamp(max=PSNR_OF_EQUAL)


def _mask(row: Row, height: int, width: int) -> Bool[Tensor, "h w"]:
    if row["mask"] is None:
        raise ValueError(f"sample of {row['id']} has no mask, though a hole was filled; write it again (dvc repro)")
    mask = decode_map(row["mask"]["bytes"]) > 0
    if mask.shape != (height, width) or not mask.any():
        raise ValueError(
            f"sample of {row['id']}: its mask hides {int(mask.sum())} of {mask.shape[1]} x {mask.shape[0]} pixels, "
            f"the sample has {width} x {height}; leave paired out of figures"
        )
    return mask
