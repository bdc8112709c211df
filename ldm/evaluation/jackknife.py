"""95 % intervals of distances: how far they would move were other pictures drawn of the same kind, equally many.

The bootstrap draws pictures with replacement, and a distance between feature distributions reads copies as a narrower
distribution: Fréchet distances of such draws lie above the figure itself, and copies are their own nearest neighbours.
Here pictures are left out instead, one of `GROUPS` groups after the other (the grouped jackknife, Shao & Tu 1995,
section 2.3), which changes the count by 5 % and by the same number each time.

An interval does not cover the bias of an estimate. A Fréchet distance of few pictures lies above that of many, and its
interval lies about the former: it tells models apart that were measured at equal counts.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from scipy.special import stdtrit
from torch import Tensor

from ldm.data.randomness import generator
from ldm.evaluation.figure import CONFIDENCE, Interval

GROUPS = 20
ROWS = 200
"""Of a matrix of distances or kernels, computed at a time: memory does not grow with the square of the pictures."""
SPARE = 28
"""Neighbours looked at beyond those that count, of which a group may be left out."""


def groups(count: int) -> Int[Tensor, " n"]:
    """For each of `count` pictures the group it is left out with, of equal sizes to one.

    At random, but always the same: the order of samples may be that of their conditions.
    """
    return torch.randperm(count, generator=generator("jackknife", count)) % min(GROUPS, count)


def interval(figure: float, without: Sequence[float], *, extra: float = 0.0, shrink: float = 1.0) -> Interval:
    """The interval about `figure`, from its values `without` each group (Student's t, for the groups are few).

    `extra` is a variance to add; `shrink` scales the standard error where the figure was measured on more pictures than
    were left out in turn, by the root of the ratio of the latter to the former.
    """
    values = torch.tensor(without, dtype=torch.float64)
    count = len(values)
    variance = (count - 1) / count * (values - values.mean()).square().sum().item() + extra
    reach = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2)) * shrink * variance**0.5
    return figure - reach, figure + reach


def of_replicates(values: Float[Tensor, " n"]) -> Interval:
    """Of the mean of a few independent measurements of one thing (Student's t)."""
    count, middle = len(values), values.mean().item()
    reach = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2)) * values.std().item() / count**0.5
    return middle - reach, middle + reach


def frechet_without(
    mean: Float[Tensor, " d"], covariance: Float[Tensor, "d d"], features: Float[Tensor, "n d"]
) -> list[float]:
    """Fréchet distances to the Gaussian of `mean` and `covariance` from `features` (double) without each group."""
    real = mean, covariance, _root(covariance)
    member = groups(len(features))
    return [_frechet(*real, *_moments(features[member != group])) for group in range(int(member.max()) + 1)]


def frechet_of_pairs_without(first: Float[Tensor, "n d"], second: Float[Tensor, "n d"]) -> list[float]:
    """Fréchet distances between `first` and `second` (double), whose rows are pairs, without each group of pairs."""
    member, found = groups(len(first)), []
    for group in range(int(member.max()) + 1):
        kept = member != group
        mean, covariance = _moments(first[kept])
        found.append(_frechet(mean, covariance, _root(covariance), *_moments(second[kept])))
    return found


def _moments(features: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    centre = features.mean(0)
    rest = features - centre
    return centre, rest.T @ rest / (len(rest) - 1)


def _root(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _frechet(mean: Tensor, covariance: Tensor, root: Tensor, centre: Tensor, other: Tensor) -> float:
    """Between two Gaussians, of the first also the `root` of its covariance."""
    cross = torch.linalg.eigvalsh(root @ other @ root).clamp(min=0).sqrt().sum()
    return ((mean - centre).square().sum() + covariance.trace() + other.trace() - 2 * cross).item()


def kid_without(features: Float[Tensor, "n d"], real: Float[Tensor, "m d"]) -> list[float]:
    """Unbiased squared MMD (cubic kernel, that of KID) between `real` and `features` (double) without each group.

    Of all pictures at once, less the part that is the same whatever is left out.
    """
    member = groups(len(features))
    number = int(member.max()) + 1
    one_hot = torch.nn.functional.one_hot(member, number).double()
    within, across = torch.zeros(number, number, dtype=torch.float64), torch.zeros(number, dtype=torch.float64)
    for start in range(0, len(features), ROWS):
        rows, mine = features[start : start + ROWS], one_hot[start : start + ROWS]
        kernel = _cubic(rows, features)
        kernel.diagonal(start).zero_()
        within += mine.T @ kernel @ one_hot
        across += mine.T @ _cubic(rows, real).sum(1)
    found = []
    for group in range(number):
        rest = len(features) - int((member == group).sum())
        inside = within.sum() - within[group].sum() - within[:, group].sum() + within[group, group]
        outside = across.sum() - across[group]
        found.append((inside / (rest * (rest - 1)) - 2 * outside / (rest * len(real))).item())
    return found


def _cubic(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    return (a @ b.T / a.shape[1] + 1) ** 3


def recall_without(features: Float[Tensor, "n d"], real: Float[Tensor, "m d"], neighbours: int) -> list[float]:
    """Shares of `real` within reach of `features` without each group, the reach of each measured without it too."""
    member = groups(len(features))
    number = int(member.max()) + 1
    reach = _reaches(features, member, neighbours)
    kept = torch.stack([member != group for group in range(number)])
    hits = torch.zeros(number, dtype=torch.int64)
    for start in range(0, len(real), ROWS):
        distance = torch.cdist(real[start : start + ROWS], features)
        for group, inside in enumerate(_inside(distance, reach, kept)):
            hits[group] += inside.sum()
    return (hits.double() / len(real)).tolist()


def _inside(
    distance: Float[Tensor, "m n"], reach: Float[Tensor, "g n"], kept: Bool[Tensor, "g n"]
) -> Iterator[Bool[Tensor, " m"]]:
    for radius, there in zip(reach, kept, strict=True):
        yield (distance <= torch.where(there, radius, -1.0)).any(1)


def _reaches(features: Float[Tensor, "n d"], member: Int[Tensor, " n"], neighbours: int) -> Float[Tensor, "g n"]:
    """For each group and picture the distance to its `neighbours`-th nearest among those not of the group."""
    number, nearest = int(member.max()) + 1, min(neighbours + 1 + SPARE, len(features))
    found = torch.empty(number, len(features), dtype=features.dtype)
    for start in range(0, len(features), ROWS):
        distance, index = torch.cdist(features[start : start + ROWS], features).topk(nearest, largest=False)
        near = member[index]
        for group in range(number):
            counted = (near != group).cumsum(1)
            at = (counted >= neighbours + 1).to(torch.uint8).argmax(1)  # the first; itself counts as one
            found[group, start : start + ROWS] = distance.gather(1, at[:, None])[:, 0]
    return found
