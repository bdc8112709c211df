"""95 % intervals of distances: how far they would move were other pictures drawn of the same kind, equally many.

The bootstrap draws pictures with replacement, and a distance between feature distributions reads copies as a narrower
distribution: Fréchet distances of such draws lie above the figure itself, and copies are their own nearest neighbours.
Here pictures are left out instead, one of `GROUPS` groups after the other (the grouped jackknife, Shao & Tu 1995,
section 2.3), which changes the count by 5 % and by the same number each time.

An interval does not cover the bias of an estimate. A Fréchet distance of few pictures lies above that of many, and its
interval lies about the former: it tells models apart that were measured at equal counts.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from scipy.special import stdtrit
from torch import Tensor

from ldm.data.randomness import generator
from ldm.evaluation.figure import CONFIDENCE, Interval
from ldm.evaluation.kept import Vectors, blocks
from ldm.evaluation.pairwise import kernel, nearest

GROUPS = 20
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


def frechet_without(mean: Float[Tensor, " d"], covariance: Float[Tensor, "d d"], features: Vectors) -> list[float]:
    """Fréchet distances to the Gaussian of `mean` and `covariance` from `features` without each group."""
    real = mean, covariance, _root(covariance)
    return [_frechet(*real, *_moments(features, rest)) for rest in _rests(len(features))]


def frechet_of_pairs_without(first: Vectors, second: Vectors) -> list[float]:
    """Fréchet distances between `first` and `second`, whose rows are pairs, without each group of pairs."""
    found = []
    for rest in _rests(len(first)):
        mean, covariance = _moments(first, rest)
        found.append(_frechet(mean, covariance, _root(covariance), *_moments(second, rest)))
    return found


def _rests(count: int) -> list[Int[Tensor, " m"]]:
    """For each group the places of all pictures that are not of it."""
    member = groups(count)
    return [(member != group).nonzero()[:, 0] for group in range(int(member.max()) + 1)]


def _moments(features: Vectors, places: Int[Tensor, " m"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Mean and unbiased covariance of the features at `places`."""
    parts = [places[block] for block in blocks(len(places))]
    centre = torch.stack([features[part].sum(0) for part in parts]).sum(0) / len(places)
    products = torch.zeros(len(centre), len(centre), dtype=centre.dtype)
    for part in parts:
        rest = features[part] - centre
        products += rest.T @ rest
    return centre, products / (len(places) - 1)


def _root(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _frechet(mean: Tensor, covariance: Tensor, root: Tensor, centre: Tensor, other: Tensor) -> float:
    """Between two Gaussians, of the first also the `root` of its covariance."""
    cross = torch.linalg.eigvalsh(root @ other @ root).clamp(min=0).sqrt().sum()
    return ((mean - centre).square().sum() + covariance.trace() + other.trace() - 2 * cross).item()


def kid_without(features: Vectors, real: Vectors) -> list[float]:
    """Unbiased squared MMD (cubic kernel, that of KID) between `real` and `features` without each group.

    Of all pictures at once, less the part that is the same whatever is left out.
    """
    member = groups(len(features))
    number = int(member.max()) + 1
    one_hot = torch.nn.functional.one_hot(member, number).double()
    within, across = torch.zeros(number, number, dtype=torch.float64), torch.zeros(number, dtype=torch.float64)
    for rows in blocks(len(features)):
        here, mine = features[rows], one_hot[rows].T
        for columns in blocks(len(features)):
            pairs = kernel(here, features[columns])
            if columns == rows:
                pairs.fill_diagonal_(0)
            within += mine @ pairs @ one_hot[columns]
        for columns in blocks(len(real)):
            across += mine @ kernel(here, real[columns]).sum(1)
    found = []
    for group in range(number):
        rest = len(features) - int((member == group).sum())
        inside = within.sum() - within[group].sum() - within[:, group].sum() + within[group, group]
        outside = across.sum() - across[group]
        found.append((inside / (rest * (rest - 1)) - 2 * outside / (rest * len(real))).item())
    return found


def recall_without(features: Vectors, real: Vectors, neighbours: int) -> list[float]:
    """Shares of `real` within reach of `features` without each group, the reach of each measured without it too."""
    member = groups(len(features))
    number = int(member.max()) + 1
    reach = _reaches(features, member, neighbours)
    for group, radius in enumerate(reach):
        radius[member == group] = -1.0  # reaches nothing
    farthest = reach.amax(0)
    hits = torch.zeros(number, dtype=torch.int64)
    for rows in blocks(len(real)):
        here = real[rows]
        inside = torch.zeros(number, len(here), dtype=torch.bool)
        for columns in blocks(len(features)):
            distance = torch.cdist(here, features[columns])
            at, of = (distance <= farthest[columns]).nonzero(as_tuple=True)
            near = distance[at, of]
            for group, radius in enumerate(reach[:, columns]):
                inside[group, at[near <= radius[of]]] = True
        hits += inside.sum(1)
    return (hits.double() / len(real)).tolist()


def _reaches(features: Vectors, member: Int[Tensor, " n"], neighbours: int) -> Float[Tensor, "g n"]:
    """For each group and picture the distance to its `neighbours`-th nearest among those not of the group."""
    number = int(member.max()) + 1
    found = torch.empty(number, len(features), dtype=torch.float64)
    for rows, distance, index in nearest(features, neighbours + 1 + SPARE):
        near = member[index]
        for group in range(number):
            counted = (near != group).cumsum(1)
            at = (counted >= neighbours + 1).to(torch.uint8).argmax(1)  # the first; itself counts as one
            found[group, rows] = distance.gather(1, at[:, None])[:, 0]
    return found
