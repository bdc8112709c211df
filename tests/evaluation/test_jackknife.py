"""Intervals: what is left out is what is computed anew without it, and they hold what they should as often as said."""

import pytest
import torch

from ldm.evaluation.jackknife import (
    GROUPS,
    frechet_of_pairs_without,
    frechet_without,
    groups,
    interval,
    kid_without,
    of_replicates,
    recall_without,
)
from ldm.evaluation.statistics import Gaussian, frechet

# isort: split
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric


def drawn(count: int, d: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(x: torch.Tensor) -> Gaussian:
    return Gaussian(x.mean(0), x.T.cov())


def test_groups_are_always_the_same_and_of_equal_sizes():
    assert groups(103).equal(groups(103))
    assert sorted(groups(103).bincount().tolist()) == [5] * 17 + [6] * 3
    assert groups(8).bincount().tolist() == [1] * 8


@pytest.mark.parametrize("count", [24, 130, 1001])
def test_leaving_out_is_measuring_anew_without(count):
    x, real, member = drawn(count), drawn(60, seed=1) * 1.1 + 0.2, groups(count)
    rests = [x[member != group] for group in range(GROUPS)]
    of_real = gaussian(real)
    distances = frechet_without(of_real.mean, of_real.covariance, x)
    assert distances == pytest.approx([frechet(of_real, gaussian(rest)) for rest in rests], rel=1e-9)
    pairs = frechet_of_pairs_without(x, 1.2 * x + 0.1)
    assert pairs == pytest.approx([frechet(gaussian(rest), gaussian(1.2 * rest + 0.1)) for rest in rests], rel=1e-9)
    recalls = [prc_features_to_metric(rest, real, prc_neighborhood=3, verbose=False)["recall"] for rest in rests]
    assert recall_without(x, real, 3) == pytest.approx(recalls, abs=1e-6)


def test_kid_without_a_group_is_kid_without_it_but_for_what_real_pictures_alone_decide():
    x, member = drawn(80), groups(80)
    real = drawn(76, seed=1) + 0.3
    rests = [x[member != group] for group in range(GROUPS)]
    whole = [
        kid_features_to_metric(rest, real, kid_subset_size=76, kid_subsets=1, verbose=False)[
            "kernel_inception_distance_mean"
        ]
        for rest in rests
    ]
    apart = torch.tensor(whole, dtype=torch.float64) - torch.tensor(kid_without(x, real), dtype=torch.float64)
    assert apart.std() < 1e-9


def test_intervals_hold_the_known_distance_of_gaussians_as_often_as_they_say():
    """2000 pictures of 4 features: the bias, about 0.005, is nothing beside the interval, about 0.22 wide."""
    scale, shift = torch.linspace(0.5, 1.5, 4, dtype=torch.float64), 0.5
    real = Gaussian(torch.zeros(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64))
    known = 4 * shift**2 + (scale - 1).square().sum().item()
    held = []
    for seed in range(200):
        x = drawn(2000, seed=seed) * scale + shift
        low, high = interval(frechet(real, gaussian(x)), frechet_without(real.mean, real.covariance, x))
        held.append(low <= known <= high)
    assert 0.90 <= sum(held) / len(held) <= 0.99


def test_intervals_of_pairs_are_about_what_pairs_give_and_narrower_than_those_of_strangers():
    """Fills against their own originals: most of both is the same, and what chance does to one it does to the other."""
    scale, shift = torch.linspace(0.8, 1.2, 4, dtype=torch.float64), 0.2
    known = 4 * shift**2 + (scale - 1).square().sum().item()
    held, widths = [], torch.zeros(2)
    for seed in range(200):
        originals, strangers = drawn(500, seed=seed), drawn(500, seed=1000 + seed)
        made = originals * scale + shift
        for kind, x in enumerate((made, strangers * scale + shift)):
            figure = frechet(gaussian(originals), gaussian(x))
            low, high = interval(figure, frechet_of_pairs_without(originals, x))
            widths[kind] += high - low
            if x is made:
                held.append(low <= known <= high)
    assert 0.90 <= sum(held) / len(held) <= 0.99
    assert widths[0] < widths[1] / 2


def test_with_fewer_pictures_than_features_the_interval_is_about_what_so_many_pictures_give():
    """64 pictures of 102 features: figures lie far above the known distance, and intervals about their mean."""
    real = Gaussian(torch.zeros(102, dtype=torch.float64), torch.eye(102, dtype=torch.float64))
    figures, intervals = [], []
    for seed in range(20):
        x = drawn(64, 102, seed)
        figures.append(frechet(real, gaussian(x)))
        intervals.append(interval(figures[-1], frechet_without(real.mean, real.covariance, x)))
    mean = sum(figures) / len(figures)
    assert mean > 40, "the known distance is 0"
    assert all(low <= mean <= high for low, high in intervals)


def test_figures_on_more_pictures_than_are_left_out_have_narrower_intervals():
    low, high = interval(1.0, [0.9, 1.1, 1.0])
    half = interval(1.0, [0.9, 1.1, 1.0], shrink=0.5)
    assert half[1] - half[0] == pytest.approx((high - low) / 2)
    assert interval(1.0, [1.0, 1.0], extra=0.01)[1] > 1.1


def test_replicates_have_students_interval():
    low, high = of_replicates(torch.tensor([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), rel=1e-6)
