"""Fidelity: how far the features of samples are from those of real pictures, gathered batch by batch."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ldm.data.randomness import generator
from ldm.evaluation.features import Extractor
from ldm.evaluation.figure import Figure, Interval, Row
from ldm.evaluation.jackknife import of_replicates
from ldm.evaluation.pairwise import kid_subsets
from ldm.evaluation.shared import Measured
from ldm.evaluation.statistics import NEIGHBOURS, RealStatistics, Statistics

SPLITS = 10
"""Of the inception score."""


class InceptionScore:
    """exp of the mean divergence of each picture's class probabilities from all pictures' (Salimans et al. 2016).

    The mean over `SPLITS` parts of the pictures. Of ten pictures that follow each other one comes into each part, which
    one is random but always the same; so that sums are enough, however many pictures there will be.
    """

    def __init__(self) -> None:
        self._count = torch.zeros(SPLITS, dtype=torch.float64)
        self._surprise = torch.zeros(SPLITS, dtype=torch.float64)
        self._probability: Tensor | None = None

    def add(self, logits: Float[Tensor, "b k"]) -> None:
        wide = logits.double()
        probability, start = wide.softmax(1), int(self._count.sum())
        member = torch.zeros(SPLITS, len(logits), dtype=torch.float64)
        member[splits(start, start + len(logits)), torch.arange(len(logits))] = 1
        self._count += member.sum(1)
        self._surprise += member @ (probability * wide.log_softmax(1)).sum(1)
        total = member @ probability
        self._probability = total if self._probability is None else self._probability + total

    def scores(self) -> Float[Tensor, " s"]:
        """One of each part that has pictures."""
        assert self._probability is not None
        used = self._count > 0
        count = self._count[used]
        mean = self._probability[used] / count[:, None]
        return (self._surprise[used] / count - torch.special.xlogy(mean, mean).sum(1)).exp()


def splits(start: int, stop: int) -> Int[Tensor, " n"]:
    """The part of the inception score that pictures from `start` on and before `stop` belong to."""
    blocks = range(start // SPLITS, -(-stop // SPLITS))
    orders = [torch.randperm(SPLITS, generator=generator("inception_score", block)) for block in blocks]
    return torch.cat(orders)[start % SPLITS :][: stop - start]


class Fidelity(Figure):
    """Distances of the samples' features to a reference, and with Inception their score."""

    def __init__(self, reference: Path, extract: Extractor, device: torch.device) -> None:
        self._real, self._extract, self._device = RealStatistics.load(reference, extract), extract, device
        self._statistics, self._score = Statistics(), InceptionScore()
        self._scored = False

    def measure(self, pixels: UInt8[Tensor, "batch 3 h w"], rows: Sequence[Row]) -> Measured:
        features, logits = self._extract(pixels.to(self._device))
        measured = {"features": features[: len(rows)]}
        return measured if logits is None else measured | {"logits": logits[: len(rows)]}

    def add(self, rows: Sequence[Row], measured: Measured) -> None:
        self._statistics.add(measured["features"])
        if "logits" in measured:
            self._scored = True
            self._score.add(measured["logits"])

    @cached_property
    def _distances(self) -> dict[str, float]:
        """Once all samples are there."""
        return self._real.fidelity(self._statistics, self._extract)

    def figures(self) -> dict[str, float]:
        figures = dict(self._distances)
        if self._scored:
            key, scores = self._extract.key("is"), self._score.scores()
            figures |= {key: scores.mean().item(), f"{key}_std": scores.std(correction=0).item()}
        return figures

    def intervals(self) -> dict[str, Interval]:
        intervals = self._real.intervals(self._statistics, self._distances, self._extract)
        if self._scored:
            low, high = of_replicates(self._score.scores())
            intervals[self._extract.key("is")] = (max(1.0, low), high)
        return intervals

    def about(self) -> dict[str, Any]:
        samples, real = len(self._statistics.kept), len(self._real.kept)
        size, subsets = kid_subsets(samples, real)
        kept = {"samples": samples, "reference": real}
        return self._real.describe(self._statistics.count) | {
            "kid": {**kept, "subset": size, "subsets": subsets},
            "precision_recall": {**kept, "neighbours": NEIGHBOURS},
        }
