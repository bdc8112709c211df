"""What distances and kernels between many vectors say, computed block by block: KID, precision and recall."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from ldm.evaluation.kept import Vectors, blocks

KID_SUBSET, KID_SUBSETS, SEED = 1000, 100, 2020
"""Pictures of each set that KID takes at a time, how often, and the seed of the draws, that of torch-fidelity."""


def kernel(a: Float64[Tensor, "n d"], b: Float64[Tensor, "m d"]) -> Float64[Tensor, "n m"]:
    """The cubic kernel of KID (Bińkowski et al. 2018)."""
    return (a @ b.T).div_(a.shape[1]).add_(1).pow_(3)


def kid_subsets(first: int, second: int) -> tuple[int, int]:
    """How many pictures of each of two sets KID takes at a time, and how often."""
    size = min(KID_SUBSET, first, second)
    return size, 1 if size == first == second else KID_SUBSETS  # more would be the same pictures again


def kernel_distance(first: Vectors, second: Vectors, size: int, subsets: int) -> tuple[float, float]:
    """KID: the unbiased squared MMD between `size` vectors of each set, its mean and deviation over `subsets`."""
    draw, found = np.random.RandomState(SEED), list[float]()
    for _ in range(subsets):
        a, b = (each[torch.from_numpy(draw.choice(len(each), size, replace=False))] for each in (first, second))
        within = _kernel_sum(a, a) - _diagonal_sum(a) + _kernel_sum(b, b) - _diagonal_sum(b)
        found.append(within / (size * (size - 1)) - 2 * _kernel_sum(a, b) / size**2)
    return float(np.mean(found)), float(np.std(found))


def _kernel_sum(a: Float64[Tensor, "n d"], b: Float64[Tensor, "m d"]) -> float:
    return sum(kernel(a[rows], b[columns]).sum().item() for rows in blocks(len(a)) for columns in blocks(len(b)))


def _diagonal_sum(a: Float64[Tensor, "n d"]) -> float:
    return (a.square().sum(1) / a.shape[1] + 1).pow(3).sum().item()


def precision_recall(made: Vectors, real: Vectors, neighbours: int) -> tuple[float, float]:
    """Share of `made` within reach of a real vector, and of `real` within reach of a made one.

    A vector reaches as far as its `neighbours`-th nearest other (Kynkäänniemi et al. 2019).
    """
    precision, recall = (_within(x, of, _reach(of, neighbours)) for x, of in ((made, real), (real, made)))
    return precision.float().mean().item(), recall.float().mean().item()


def _reach(vectors: Vectors, neighbours: int) -> Float64[Tensor, " n"]:
    return torch.cat([distance[:, -1] for _, distance, _ in nearest(vectors, neighbours + 1)])


def _within(vectors: Vectors, centres: Vectors, reach: Float64[Tensor, " m"]) -> Bool[Tensor, " n"]:
    found = torch.zeros(len(vectors), dtype=torch.bool)
    for rows in blocks(len(vectors)):
        here = vectors[rows]
        for columns in blocks(len(centres)):
            found[rows] |= (torch.cdist(here, centres[columns]) <= reach[columns]).any(1)
    return found


def nearest(
    vectors: Vectors, count: int
) -> Iterator[tuple[slice, Float64[Tensor, "b count"], Int64[Tensor, "b count"]]]:
    """For each block of vectors the `count` that are nearest to each, itself among them: how far, and which."""
    for rows in blocks(len(vectors)):
        here = vectors[rows]
        distance, index = here.new_empty(len(here), 0), torch.empty(len(here), 0, dtype=torch.int64)
        for columns in blocks(len(vectors)):
            found = torch.cdist(here, vectors[columns])
            more, place = found.topk(min(count, found.shape[1]), largest=False)
            every = torch.cat([distance, more], dim=1)
            distance, order = every.topk(min(count, every.shape[1]), largest=False)
            index = torch.cat([index, place + columns.start], dim=1).gather(1, order)
        yield rows, distance, index
