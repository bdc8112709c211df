"""Statistics of features, gathered batch by batch, and the distances between two sets of them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from safetensors.torch import save_file
from torch import Tensor

import ldm.nn.vision  # noqa: F401  makes torchvision importable, which torch_fidelity imports

# isort: split
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

from ldm.data.batches import mixed
from ldm.evaluation.features import Extractor
from ldm.evaluation.figure import Interval, wilson
from ldm.evaluation.jackknife import (
    frechet_of_pairs_without,
    frechet_without,
    interval,
    kid_without,
    recall_without,
)
from ldm.evaluation.kept import Kept, Scaled, blocks
from ldm.evaluation.pairwise import KID_SUBSETS, kernel_distance, kid_subsets, precision_recall
from ldm.files import identity, read_json, whole, write_json
from ldm.nn.weights import read_tensors

KEPT = 10_000
"""Features kept one by one, the first so many, for what mean and covariance cannot give: KID, precision, recall."""
NEIGHBOURS = 3
"""Of precision and recall (Kynkäänniemi et al. 2019)."""
WIDEST = 2048
"""Dimensions up to which the Fréchet distance has an interval: its cost grows with their cube."""


@dataclass(frozen=True)
class Gaussian:
    mean: Float[Tensor, " d"]
    covariance: Float[Tensor, "d d"]

    def over(self, scale: Float[Tensor, " d"]) -> "Gaussian":
        """The same with every feature divided by its `scale`."""
        return Gaussian(self.mean / scale, self.covariance / scale / scale[:, None])


def frechet(a: Gaussian, b: Gaussian) -> float:
    """Fréchet distance |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) between Gaussians (Heusel et al. 2017, eq. 6)."""
    first, second = ({"mu": g.mean.numpy(), "sigma": g.covariance.numpy()} for g in (a, b))
    return max(0.0, fid_statistics_to_metric(first, second, False)[KEY_METRIC_FID])


class Statistics:
    """Sums over feature vectors in double precision, and the first `keep` vectors themselves."""

    def __init__(self, keep: int = KEPT) -> None:
        self.count, self._keep = 0, keep
        self._kept = Kept()
        self._sum: Tensor | None = None
        self._products: Tensor | None = None

    def add(self, features: Float[Tensor, "b d"]) -> None:
        room = self._keep - min(self.count, self._keep)
        if room:
            self._kept.add(features[:room])
        self.count += len(features)
        wide = features.double()
        total, products = wide.sum(0), wide.T @ wide
        self._sum = total if self._sum is None else self._sum + total
        self._products = products if self._products is None else self._products + products

    @property
    def kept(self) -> Float[Tensor, "n d"]:
        """In a file that is mapped into memory."""
        return self._kept.vectors

    def gaussian(self) -> Gaussian:
        """Mean and unbiased covariance; needs two vectors."""
        assert self.count > 1
        assert self._sum is not None
        assert self._products is not None
        mean = self._sum / self.count
        return Gaussian(mean, (self._products - self.count * torch.outer(mean, mean)) / (self.count - 1))


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A distance between two sets of real pictures, for another distance to be held against."""

    distance: float
    count: int
    against: int
    """Pictures of either set."""


@dataclass(frozen=True, kw_only=True)
class RealStatistics:
    """What a reference folder holds: statistics of real pictures, to compare others with."""

    gaussian: Gaussian
    scale: Float[Tensor, " d"]
    """What each feature is divided by before distances are taken."""
    kept: Float[Tensor, "n d"]
    floor: Mapping[str, float]
    """Distances (frechet_distance, kernel_distance) between two halves of these very pictures: real against real."""
    opposite: Float[Tensor, "m d"] | None
    """The first features of the split that is told about under `train` in `about`; None where there is no such."""
    about: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        every: Statistics,
        halves: tuple[Statistics, Statistics],
        extractor: Extractor,
        opposite: Statistics | None = None,
    ) -> "RealStatistics":
        gaussian = every.gaussian()
        scale = torch.ones_like(gaussian.mean)
        if extractor.standardise:
            deviation = gaussian.covariance.diagonal().clamp(min=0).sqrt()
            scale = torch.where(deviation > 1e-6, deviation, 1.0)  # a feature that never varies says nothing
        first, second = (half.gaussian().over(scale) for half in halves)
        about = {**extractor.about, "count": every.count, "dimensions": len(scale), "kept": len(every.kept)}
        others = opposite.kept if opposite else None
        found = cls(gaussian=gaussian, scale=scale, kept=every.kept, floor={}, opposite=others, about=about)
        kernel = found.kernel_distance(every.kept[::2], every.kept[1::2])[0]
        return replace(found, floor={"frechet_distance": frechet(first, second), "kernel_distance": kernel})

    def between(self, a: Statistics, b: Statistics) -> float:
        """Fréchet distance between two other sets, on features scaled as these pictures' are."""
        return frechet(a.gaussian().over(self.scale), b.gaussian().over(self.scale))

    def between_interval(self, a: Statistics, b: Statistics) -> Interval | None:
        """Of `between`, where the features kept of both are of pairs; None as for `distance_interval`."""
        if len(self.scale) > WIDEST:
            return None
        without = frechet_of_pairs_without(self._over_scale(a.kept), self._over_scale(b.kept))
        low, high = interval(self.between(a, b), without, shrink=(len(a.kept) / a.count) ** 0.5)
        return max(0.0, low), high

    def kernel_distance(self, a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> tuple[float, float]:
        """KID between two sets of features: mean and deviation over subsets."""
        return kernel_distance(self._scaled(a), self._scaled(b), *kid_subsets(len(a), len(b)))

    def save(self, folder: Path, about: Mapping[str, Any]) -> None:
        tensors = {
            "mean": self.gaussian.mean,
            "covariance": self.gaussian.covariance,
            "scale": self.scale,
            "features": self.kept,
        }
        tensors |= {} if self.opposite is None else {"opposite": self.opposite}
        with whole(folder / "statistics.safetensors") as beside:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside)
        floor = {name: rounded(distance) for name, distance in self.floor.items()}
        of = {"of": "two halves of the pictures, every other one"}
        write_json(folder / "reference.json", {**self.about, **about, "floor": floor | of})

    @classmethod
    def load(cls, folder: Path, extractor: Extractor) -> "RealStatistics":
        """The reference in `folder`. Raises ValueError where it was measured with other features."""
        identity(folder)
        about = read_json(folder / "reference.json")
        here, there = (f"{a['features']} {a.get('features_sha256', '')[:12]}".strip() for a in (extractor.about, about))
        if here != there:
            raise ValueError(f"{folder}: measured with {there}, not with {here}; name the same features in both rows")
        t = read_tensors(folder / "statistics.safetensors")
        gaussian = Gaussian(t["mean"], t["covariance"])
        floor = {name: distance for name, distance in about["floor"].items() if name != "of"}
        kept, opposite = t["features"], t.get("opposite")
        return cls(gaussian=gaussian, scale=t["scale"], kept=kept, floor=floor, opposite=opposite, about=about)

    def distance(self, statistics: Statistics) -> float:
        return frechet(self.gaussian.over(self.scale), statistics.gaussian().over(self.scale))

    def beside(self, key: str, distance: str = "frechet_distance") -> dict[str, float]:
        """What stands beside a `distance` called `key`: real against real, and train against held-out."""
        train = self.about.get("train")
        return {f"{key}_floor": self.floor[distance]} | ({f"{key}_train": train[distance]} if train else {})

    def beside_at(self, made: int, real: int) -> dict[str, Beside]:
        """The same beside a Fréchet distance of `made` pictures to `real` ones, at these counts as far as so many are
        kept: `floor`, some of these pictures and others of them; `train`, where there are such, opposite ones and them.

        Which pictures stand for them is random, but always the same.
        """
        kept, opposite, order = len(self.kept), self.opposite, mixed(len(self.kept), len(self.kept))
        count = min(made, kept // 2)
        found = {"floor": self._beside(self.kept, order[:count], order[count : count + real])}
        if opposite is not None:
            strangers = mixed(min(made, len(opposite)), len(opposite))
            found["train"] = self._beside(opposite, strangers, order[:real])
        return found

    def _beside(self, features: Float[Tensor, "n d"], some: Int64[Tensor, " a"], these: Int64[Tensor, " b"]) -> Beside:
        """Between `features` at the places `some` and those kept of these pictures at the places `these`."""
        sets = Statistics(keep=0), Statistics(keep=0)
        for statistics, source, places in zip(sets, (features, self.kept), (some, these), strict=True):
            for block in blocks(len(places)):
                statistics.add(source[places[block]])
        return Beside(distance=self.between(*sets), count=len(some), against=len(these))

    def fidelity(self, statistics: Statistics, key: Extractor) -> dict[str, float]:
        """Every figure of the distance between these real pictures and others, under the extractor's names."""
        kid_mean, kid_std = self.kernel_distance(statistics.kept, self.kept)
        precision, recall = precision_recall(self._scaled(statistics.kept), self._scaled(self.kept), NEIGHBOURS)
        fd, kid = key.key("fd"), key.key("kid")
        return {
            fd: self.distance(statistics),
            **self.beside(fd),
            kid: kid_mean,
            f"{kid}_std": kid_std,
            **self.beside(kid, "kernel_distance"),
            key.key("precision"): precision,
            key.key("recall"): recall,
        }

    def distance_interval(self, statistics: Statistics) -> Interval | None:
        """Of `distance`; None where there are more than `WIDEST` dimensions."""
        if len(self.scale) > WIDEST:
            return None
        kept, real = statistics.kept, self.gaussian.over(self.scale)
        without = frechet_without(real.mean, real.covariance, self._over_scale(kept))
        low, high = interval(self.distance(statistics), without, shrink=(len(kept) / statistics.count) ** 0.5)
        return max(0.0, low), high

    def intervals(self, statistics: Statistics, figures: Mapping[str, float], key: Extractor) -> dict[str, Interval]:
        """Of the `figures` that `fidelity` gave: of other samples, equally many, against these same real pictures."""
        real, other = self._scaled(self.kept), self._scaled(statistics.kept)
        kid, precision, recall = (key.key(name) for name in ("kid", "precision", "recall"))
        drawn = figures[f"{kid}_std"] ** 2 / KID_SUBSETS
        low, high = interval(figures[recall], recall_without(other, real, NEIGHBOURS))
        found = {
            kid: interval(figures[kid], kid_without(other, real), extra=drawn),
            precision: wilson(round(figures[precision] * len(other)) / len(other), len(other)),
            recall: (max(0.0, low), min(1.0, high)),
        }
        distance = self.distance_interval(statistics)
        return found if distance is None else {key.key("fd"): distance} | found

    def _scaled(self, features: Float[Tensor, "n d"]) -> Scaled:
        """For kernels and neighbours: centred where features are given unit variance."""
        centre = self.gaussian.mean if (self.scale != 1).any() else torch.zeros((), dtype=torch.float64)
        return Scaled(vectors=features, centre=centre, scale=self.scale)

    def _over_scale(self, features: Float[Tensor, "n d"]) -> Scaled:
        """For Gaussians, whose place is a matter of both."""
        return Scaled(vectors=features, centre=torch.zeros((), dtype=torch.float64), scale=self.scale)

    def describe(self, count: int) -> dict[str, Any]:
        """How figures against this reference were measured, for `about`, with a warning where too few pictures were."""
        about = {k: v for k, v in self.about.items() if k.startswith("features")}
        about |= {"dimensions": self.about["dimensions"], "reference_count": self.about["count"]}
        about |= {"reference_split": self.about["split"], "floor": self.about["floor"]}
        about |= {"train": self.about["train"]} if "train" in self.about else {}
        if self.about["dimensions"] > WIDEST:
            about["intervals"] = f"none of the Fréchet distance: it has more than {WIDEST} dimensions"
        fewest = min(count, self.about["count"])
        if fewest <= self.about["dimensions"]:
            about["note"] = (
                f"{fewest} pictures for {self.about['dimensions']} feature dimensions: the covariance is singular "
                "and the Fréchet distance far above that of many pictures; compare it only at equal counts"
            )
        return about


def check_comparable(reference: Path, images: Path, splits: Collection[str]) -> int:
    """Pixels a side of the pictures that the folder `reference` was measured on.

    ValueError where these are other prepared pictures than `images`, or of a split that is not among the `splits`.
    """
    about = read_json(reference / "reference.json")
    if about["images"] != identity(images):
        raise ValueError(f"{reference}: not measured on {images}; name a reference of the same dataset, or dvc repro")
    if about["split"] not in splits:
        wanted = " or ".join(sorted(splits))
        raise ValueError(f"{reference}: measured on the split {about['split']}; name a reference of {wanted}")
    return int(about["size"])


def check_side(reference: Path, side: int, height: int, width: int) -> None:
    if (height, width) != (side, side):
        raise ValueError(
            f"{reference}: measured at {side} x {side} pixels, these pictures have {width} x {height}; "
            "name a reference with their size, or with a crop to it"
        )


def rounded(value: float) -> float:
    """Six significant digits: what is left is readable, and the last bits of a sum do not show."""
    return float(f"{value:.6g}")


def padded(pixels: Tensor, batch: int) -> Tensor:
    """`pixels` with the last one repeated up to `batch`: every step computes the same shapes, whatever is left over."""
    return torch.cat([pixels, pixels[-1:].expand(batch - len(pixels), *pixels.shape[1:])])
