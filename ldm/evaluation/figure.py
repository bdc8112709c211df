"""What every group of figures offers, and means over pictures with their 95 % intervals."""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from scipy.stats import norm, t
from torch import Tensor

from ldm.data.pictures import decode
from ldm.evaluation.shared import Measured
from ldm.training.several import Processes

CONFIDENCE = 0.95
Row = Mapping[str, Any]
Interval = tuple[float, float]


@runtime_checkable
class Figure(Protocol):
    """A group of figures of samples, batch by batch: pixels padded to the batch, and the rows that are real.

    `measure` does what takes time, in one of the processes that share the samples, and `add` takes it in, in all of
    them and in order. `figures` come under honest keys, `intervals` (95 %) under the same keys, for those figures that
    have one; `about` says how they were measured. These three are asked of the first process alone.
    """

    def measure(self, pixels: UInt8[Tensor, "batch 3 h w"], rows: Sequence[Row]) -> Measured: ...
    def add(self, rows: Sequence[Row], measured: Measured) -> None: ...
    def figures(self) -> dict[str, float]: ...
    def intervals(self) -> dict[str, Interval]: ...
    def about(self) -> dict[str, Any]: ...

    def complete(self, processes: Processes) -> None:
        """What `processes` have to look at together after the last sample; for most it is nothing."""
        return


def mean_interval(values: Sequence[float], ids: Sequence[str]) -> Interval | None:
    """The 95 % interval of a mean over pictures: Student's t over originals; None where there is only one original.

    For a mean it is what a bootstrap approaches, known beforehand: nothing is drawn, so there is no seed, and 50,000
    pictures cost no more than their sum. `ids` name the originals. Samples of one original resemble each other, so
    their average counts as one observation: more samples of the same originals do not feign certainty about others.
    """
    means = torch.tensor(_by_original(values, ids), dtype=torch.float64)
    if len(means) < 2:
        return None
    half = float(t.ppf(0.5 + CONFIDENCE / 2, len(means) - 1)) * means.std().item() / len(means) ** 0.5
    middle = means.mean().item()
    return middle - half, middle + half


def share_interval(right: Sequence[bool], ids: Sequence[str]) -> Interval:
    """The 95 % interval (Wilson 1927) of a share of pictures: within [0, 1], and of some width at 0 and at 1 too,
    where Student's and the bootstrap's have none. As many observations as there are originals in `ids`.
    """
    means = _by_original([float(one) for one in right], ids)
    return wilson(sum(means) / len(means), len(means))


def wilson(share: float, count: int) -> Interval:
    """The same of a share that is known, of so many."""
    z = float(norm.ppf(0.5 + CONFIDENCE / 2))
    middle = share + z**2 / (2 * count)
    half = z * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    low, high = ((middle + side * half) / (1 + z**2 / count) for side in (-1, 1))
    return max(0.0, low) if share > 0 else 0.0, min(1.0, high) if share < 1 else 1.0


def _by_original(values: Sequence[float], ids: Sequence[str]) -> Sequence[float]:
    """The average value of each original's samples."""
    if len(set(ids)) == len(ids):
        return values
    groups: dict[str, list[float]] = {}
    for id, value in zip(ids, values, strict=True):
        groups.setdefault(id, []).append(value)
    return [sum(group) / len(group) for group in groups.values()]


class Means:
    """Figures that are means over pictures. Of these only numbers stay in memory, eight bytes each, and ids."""

    def __init__(self) -> None:
        self._values: dict[str, array[float]] = {}
        self._ids: dict[str, list[str]] = {}

    def add(self, ids: Sequence[str], values: Mapping[str, Tensor]) -> None:
        """`values` has one number a picture for each figure; `ids` are the pictures' originals."""
        for key, numbers in values.items():
            self._values.setdefault(key, array("d")).extend(numbers.tolist())
            self._ids.setdefault(key, []).extend(ids)

    def figures(self) -> dict[str, float]:
        return {key: sum(values) / len(values) for key, values in self._values.items()}

    def intervals(self) -> dict[str, Interval]:
        found = {key: mean_interval(values, self._ids[key]) for key, values in self._values.items()}
        return {key: interval for key, interval in found.items() if interval is not None}


def pictures(rows: Sequence[Row]) -> UInt8[Tensor, "b 3 h w"]:
    """The samples of `rows`. Raises ValueError of one line where they are not all of one size."""
    decoded = [decode(row["image"]["bytes"]) for row in rows]
    for row, image in zip(rows, decoded, strict=True):
        if image.shape != decoded[0].shape:
            (height, width), (_, h, w) = image.shape[1:], decoded[0].shape
            raise ValueError(
                f"sample of {row['id']}: {width} x {height} pixels, others {w} x {h}; bring them to one size"
            )
    return torch.stack(decoded)
