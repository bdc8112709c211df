"""Intervals of means and shares: against scipy, and that 95 of a hundred hold what they are of."""

import pytest
import torch
from scipy.stats import binomtest, ttest_1samp

from ldm.evaluation.figure import Means, mean_interval, share_interval


def ids(count):
    return [str(i) for i in range(count)]


def test_the_interval_of_a_mean_is_students():
    values = torch.rand(40, generator=torch.Generator().manual_seed(0)).tolist()
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values, ids(40)) == pytest.approx((expected.low, expected.high), rel=1e-9)


@pytest.mark.parametrize("right", [0, 3, 20, 40])
def test_the_interval_of_a_share_is_wilsons(right):
    expected = binomtest(right, 40).proportion_ci(0.95, method="wilson")
    found = share_interval([i < right for i in range(40)], ids(40))
    assert found == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)


def test_one_original_has_no_interval():
    assert mean_interval([1.0, 2.0], ["a", "a"]) is None
    means = Means()
    means.add(["a"], {"psnr": torch.tensor([30.0])})
    assert means.intervals() == {}


def test_intervals_hold_what_they_are_of_95_times_in_a_hundred():
    draw = torch.Generator().manual_seed(1)
    skewed = torch.rand(1000, 60, generator=draw).square()  # mean 1/3
    held = [low <= 1 / 3 <= high for low, high in (mean_interval(v, ids(60)) for v in skewed.tolist())]
    assert sum(held) / 1000 == pytest.approx(0.95, abs=0.025)
    shares = torch.rand(1000, 60, generator=draw) < 0.9
    held = [low <= 0.9 <= high for low, high in (share_interval(v, ids(60)) for v in shares.tolist())]
    assert sum(held) / 1000 == pytest.approx(0.95, abs=0.025)
