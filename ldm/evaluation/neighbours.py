"""Whether samples are training pictures: the nearest one of each sample, and a rule for what is too near."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int64, UInt8
from torch import Tensor

from ldm.data.batches import mixed
from ldm.data.shards import Images
from ldm.evaluation.features import Extractor
from ldm.evaluation.figure import Figure, Interval, Row, share_interval
from ldm.evaluation.kept import Kept, blocks, filled
from ldm.evaluation.reconstruction import central
from ldm.evaluation.shared import Measured, shared
from ldm.evaluation.statistics import padded, rounded
from ldm.training.several import Processes

RATE = 0.01
"""Of pictures that the model has never seen, the share that is called memorised by each way of comparing."""
NEAREST = 50
"""Training pictures whose mean distance tells how densely they lie around a sample (Carlini et al. 2023)."""
SIDE = 16
"""Pixels a side at which pictures themselves are compared."""
FEW = 100
"""Samples of a block: with mirror images and all their pixels they are wide."""
MOST, HELD_OUT, SHOWN = 10_000, 2_000, 32
"""Samples that are looked up, the first so many; pictures of each held-out split that set the rule; samples listed."""

Batch = UInt8[Tensor, "b 3 h w"]
Vectors = Float[Tensor, "b d"]
Pairs = Float[Tensor, "b 2 d"]
"""Vectors of pictures, and of their mirror images."""


class Queries:
    """Pictures, and the training pictures found nearest to each so far.

    A distance is Euclidean, to a picture or to its mirror image, whichever is nearer: training may have mirrored. In
    memory is one block of the pictures at a time; the rest lies in files.
    """

    def __init__(self, pairs: Pairs, scale: Float64[Tensor, " d"], train: int) -> None:
        """Of vectors of pictures and of their mirror images, each number divided by its `scale`; `train` pictures will
        be looked at."""
        self._pairs, self._scale = pairs, scale
        nearest = min(NEAREST, train)
        self.distances: Float64[Tensor, "b k"] = filled(len(pairs), nearest, torch.inf, torch.float64)
        self._positions: Int64[Tensor, "b k"] = filled(len(pairs), nearest, -1, torch.int64)

    def see(self, vectors: Vectors, first: int) -> None:
        """Look at a batch of training pictures, the first of them at position `first`."""
        scaled, positions = vectors.double() / self._scale, torch.arange(first, first + len(vectors))
        for rows in blocks(len(self._pairs), FEW):
            here = self._pairs[rows].transpose(0, 1).double() / self._scale
            found = torch.cdist(here, scaled).amin(0)
            every = torch.cat([self.distances[rows], found], dim=1)
            self.distances[rows], order = every.topk(self.distances.shape[1], largest=False)
            places = torch.cat([self._positions[rows], positions.expand_as(found)], dim=1)
            self._positions[rows] = places.gather(1, order)

    @property
    def nearest(self) -> Int64[Tensor, " b"]:
        return self._positions[:, 0]

    @property
    def closeness(self) -> Float64[Tensor, " b"]:
        """Distance to the nearest over the mean distance to the nearest 50: 0 for a copy, towards 1 for a stranger."""
        around = self.distances.mean(1)
        return torch.where(around > 0, self.distances[:, 0] / around, 0.0)


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way of comparing pictures: by vectors of them."""

    vectors: Callable[[Batch], Vectors]
    standardise: bool
    """Whether the vectors' numbers differ in scale, and are brought to unit deviation over held-out pictures."""

    def pairs(self, pixels: Batch) -> Pairs:
        return torch.stack([self.vectors(pixels), self.vectors(pixels.flip(-1))], dim=1)

    def scale(self, held_out: Pairs) -> Float64[Tensor, " d"]:
        if not self.standardise:
            return torch.ones(held_out.shape[-1], dtype=torch.float64)
        deviation = held_out[:, 0].double().std(0)
        return torch.where(deviation > 1e-6, deviation, 1.0)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one way of comparing says of the samples."""

    samples: Queries
    held_out: Queries
    rank: int

    @property
    def threshold(self) -> float:
        return self.held_out.closeness.sort().values[self.rank - 1].item()

    @property
    def memorised(self) -> Bool[Tensor, " b"]:
        return self.samples.closeness <= self.threshold

    @property
    def closer(self) -> float:
        """Chance that a sample is closer than a held-out picture (Meehan et al. 2020): 0.5 for fresh pictures."""
        samples, held_out = self.samples.closeness, self.held_out.closeness.sort().values
        farther = len(held_out) - torch.searchsorted(held_out, samples, right=True)
        level = torch.searchsorted(held_out, samples, right=True) - torch.searchsorted(held_out, samples)
        return ((farther + level / 2).double().mean() / len(held_out)).item()

    def about(self) -> dict[str, Any]:
        numbers = {
            "threshold": self.threshold,
            "closer_than_held_out": self.closer,
            "distance_median": self.samples.distances[:, 0].median().item(),
            "held_out_distance_median": self.held_out.distances[:, 0].median().item(),
        }
        return {"memorised": int(self.memorised.sum())} | {name: rounded(value) for name, value in numbers.items()}


class Neighbours(Figure):
    """`memorised`: the share of samples that are a training picture or nearly one; in `about`, neighbours of the first.

    Pictures are compared twice: by the features of the row, and by their pixels at 16 x 16, which know a copy that was
    compressed, or went through a first stage, where untrained features see its faint texture. A sample's closeness is
    its distance to the nearest training picture over the mean distance to its nearest 50 (Carlini et al. 2023, section
    5.1: plain pictures lie near to many others without being copies). How close is too close is learned from held-out
    real pictures: a sample is memorised where, by either comparison, it is at least as close as the k-th closest of n
    held-out ones, k = max(1, floor(0.01 (n + 1))). That befalls a fresh picture of their distribution, whatever it is,
    with probability k / (n + 1) a comparison: 1 % to 2 % of fresh pictures are called memorised (`expected_at_most`),
    and a share far above says that the model repeats what it was trained on. Where fresh
    pictures themselves come close to training pictures, as drawn scenes of one object do, a changed copy cannot be told
    from them one by one; all samples together can: `closer_than_held_out`, in `about`, is then far above 0.5.
    """

    def __init__(self, images: Path, extract: Extractor, device: torch.device, batch: int) -> None:
        """`images` are prepared pictures, whose train split the model was trained on; read `batch` at a time."""
        self._train = Images(images, "train")
        self._held_out = list(_held_out(images, self._train.info["splits"]))
        if not self._held_out:
            raise ValueError(f"{images}: no test or validation split to set a rule by; leave neighbours out of figures")
        self._batch = batch

        def features(pixels: Batch) -> Vectors:
            return extract(padded(pixels, batch).to(device))[0][: len(pixels)]

        self._ways = {
            "features": Way(vectors=features, standardise=extract.standardise),
            "pixels": Way(vectors=_small, standardise=False),
        }
        self._made = {name: Kept() for name in self._ways}
        self._ids, self._first = list[str](), list[dict[str, Any]]()
        self._size: tuple[int, int] = (0, 0)
        self._verdicts: dict[str, Verdict] = {}

    def measure(self, pixels: UInt8[Tensor, "batch 3 h w"], rows: Sequence[Row]) -> Measured:
        if len(self._ids) == MOST:
            return {}
        return {"size": torch.tensor(pixels.shape[2:])} | self._pairs(pixels[: len(rows)])

    def add(self, rows: Sequence[Row], measured: Measured) -> None:
        room = MOST - len(self._ids)
        if room:
            height, width = measured["size"].tolist()
            self._size = (height, width)
            for name, kept in self._made.items():
                kept.add(measured[name][:room])
        self._ids += [row["id"] for row in rows[:room]]
        self._first += [{"seed": row["seed"], "id": row["id"]} for row in rows[: SHOWN - len(self._first)]]

    def complete(self, processes: Processes) -> None:
        """The training pictures are read once, batch by batch, and only distances are kept of them, in the first."""
        strangers = ((images, part) for images, chosen in self._held_out for part in chosen.split(self._batch))
        real = {name: Kept() for name in self._ways}
        for _, pairs in shared(strangers, lambda batch: self._pairs(self._read(*batch)), processes):
            for name, kept in real.items():
                kept.add(pairs[name])
        for name, way in self._ways.items():
            scale, train = way.scale(real[name].vectors), len(self._train)
            samples, held_out = (Queries(kept[name].vectors, scale, train) for kept in (self._made, real))
            self._verdicts[name] = Verdict(samples=samples, held_out=held_out, rank=self._rank)
        positions = torch.arange(len(self._train)).split(self._batch)
        for seen, vectors in shared(positions, self._vectors, processes):
            for name, verdict in self._verdicts.items() if processes.first else ():
                verdict.samples.see(vectors[name], int(seen[0]))
                verdict.held_out.see(vectors[name], int(seen[0]))

    def figures(self) -> dict[str, float]:
        return {"memorised": self._memorised.double().mean().item()}

    def intervals(self) -> dict[str, Interval]:
        return {"memorised": share_interval(self._memorised.tolist(), self._ids)}

    def about(self) -> dict[str, Any]:
        rule: dict[str, Any] = {
            "of": len(self._ids),
            "expected_at_most": rounded(len(self._ways) * self._rank / (self._strangers + 1)),
            "train": len(self._train),
            "held_out": self._strangers,
            "nearest": min(NEAREST, len(self._train)),
        }
        rule |= {name: verdict.about() for name, verdict in self._verdicts.items()}
        return {"memorised": rule, "neighbours": [self._neighbour(i) for i in range(len(self._first))]}

    def _neighbour(self, index: int) -> dict[str, Any]:
        """The training picture nearest to a sample by its features; by its pixels where they alone say it is a copy."""
        says = [name for name, verdict in self._verdicts.items() if verdict.memorised[index]]
        by = says[0] if says else "features"
        queries = self._verdicts[by].samples
        return self._first[index] | {
            "train_id": self._train.ids[int(queries.nearest[index])],
            "distance": rounded(queries.distances[index, 0].item()),
            "by": by,
            "memorised": bool(says),
        }

    @property
    def _strangers(self) -> int:
        return sum(len(chosen) for _, chosen in self._held_out)

    @property
    def _rank(self) -> int:
        return max(1, int(RATE * (self._strangers + 1)))

    @property
    def _memorised(self) -> Bool[Tensor, " b"]:
        return torch.stack([verdict.memorised for verdict in self._verdicts.values()]).any(0)

    def _pairs(self, pixels: Batch) -> dict[str, Tensor]:
        return {name: way.pairs(pixels) for name, way in self._ways.items()}

    def _vectors(self, positions: Int64[Tensor, " b"]) -> dict[str, Tensor]:
        pixels = self._read(self._train, positions)
        return {name: way.vectors(pixels) for name, way in self._ways.items()}

    def _read(self, images: Images, indices: Int64[Tensor, " b"]) -> Batch:
        """Real pictures as large as the samples: their middle, where samples are smaller."""
        return torch.stack([central(images.pixels(index), *self._size) for index in indices.tolist()])


def _held_out(images: Path, splits: Mapping[str, int]) -> Iterator[tuple[Images, Int64[Tensor, " b"]]]:
    """Pictures of test and validation, at most so many of each, in a fixed shuffled order."""
    for split in ("test", "validation"):
        if splits.get(split):
            found = Images(images, split)
            yield found, mixed(min(HELD_OUT, len(found)), len(found))


def _small(pixels: Batch) -> Vectors:
    """Pixels, averaged where there are more than 16 a side."""
    height, width = (min(SIDE, side) for side in pixels.shape[2:])
    return F.adaptive_avg_pool2d(pixels.float(), (height, width)).flatten(1)
