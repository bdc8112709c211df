"""What a plan of trials promises: no original twice, sides, comparisons and positions balanced, checks spread."""

from collections import Counter
from itertools import chain, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm.study.trials import COMPARISONS, Trial, plan, sheet, stride
from tests.study.samples import IDS
from tests.study.samples import settings as study

SMALL = st.fixed_dictionaries({"trials": st.integers(1, 8), "catch": st.integers(0, 8), "practice": st.integers(0, 3)})


def met(trial: Trial) -> frozenset[str]:
    return frozenset((trial.left, trial.right))


@pytest.mark.parametrize("trials", [1, 5, 8])
def test_each_comparison_stands_on_either_side_equally_often_for_each_rater(trials):
    planned = plan(study(trials=trials, catch=6), sorted(IDS), "secret")
    assert len(planned.lists) == 6
    for trials_of_one in planned.lists:
        left = Counter((met(t), t.left) for t in trials_of_one)
        for pair, count in Counter(met(t) for t in trials_of_one).items():
            assert count == (6 if "mosaic" in pair else trials)
            assert abs(2 * max(left[pair, side] for side in pair) - count) <= 1


def test_no_rater_sees_an_original_twice():
    planned = plan(study(trials=8, catch=6, practice=2), sorted(IDS), "secret")
    for trials in planned.lists:
        sources = [t.source for t in (*planned.practice, *trials)]
        assert len(sources) == len(set(sources)) == 3 * 8 + 6 + 2


def test_over_all_lists_every_original_is_in_every_comparison_on_both_sides():
    planned = plan(study(trials=8, catch=0), sorted(IDS), "secret")
    seen = Counter((t.source, t.left, t.right) for trials in planned.lists for t in trials)
    pairs = {pair for one in COMPARISONS for pair in (one, one[::-1])}
    sources = {source for source, *_ in seen}
    assert len(sources) == 3 * 8
    assert seen == Counter((source, *pair) for source in sources for pair in pairs)


def test_every_second_list_is_the_one_before_it_mirrored_and_backwards():
    planned = plan(study(trials=5, catch=3), sorted(IDS), "secret")
    for one, other in zip(planned.lists[::2], planned.lists[1::2], strict=True):
        assert [(t.source, t.left, t.right) for t in one] == [(t.source, t.right, t.left) for t in other[::-1]]


def test_names_of_trials_are_unique_over_all_lists():
    planned = plan(study(trials=8, catch=6, practice=2), sorted(IDS), "secret")
    names = [t.name for t in chain(planned.practice, *planned.lists)]
    assert len(names) == len(set(names)) == 2 + 6 * (3 * 8 + 6)


@settings(max_examples=25, deadline=None)
@given(SMALL, st.text())
def test_over_all_sheets_every_pair_stands_at_every_position_on_either_side_once(sizes, secret):
    lists = plan(study(**sizes), sorted(IDS), secret).lists
    pairs = len(lists[0])
    everyone = [sheet(lists, number) for number in range(len(lists) * pairs)]
    seen = Counter(
        (trial.source, trial.left, trial.right, trial.rotation, position)
        for trials in everyone
        for position, trial in enumerate(trials)
    )
    assert set(seen.values()) == {1}
    assert len(seen) == 6 * pairs * pairs
    # Each position has each comparison as often as every other position has, on each side.
    kinds = Counter((trial.left, trial.right, position) for trials in everyone for position, trial in enumerate(trials))
    for left, right in (*COMPARISONS, ("original", "mosaic")):
        assert len({kinds[one, other, p] for one, other in ((left, right), (right, left)) for p in range(pairs)}) == 1


@settings(max_examples=25, deadline=None)
@given(SMALL, st.integers(1, 400))
def test_lists_and_beginnings_are_balanced_however_many_raters_come(sizes, raters):
    lists = plan(study(**sizes), sorted(IDS), "secret").lists
    begun = Counter(sheet(lists, number)[0].name for number in range(raters))
    assert max(begun.values()) - min(begun[trial.name] for trial in chain(*lists)) <= 1
    each = [sum(begun[trial.name] for trial in trials) for trials in lists]
    assert max(each) - min(each) <= 1
    assert sheet(lists, raters) == sheet(lists, raters + 6 * len(lists[0]))


@given(st.integers(1, 400), st.integers(2, 12))
def test_a_few_raters_begin_far_apart(pairs, raters):
    step = stride(pairs)
    assert sorted(i * step % pairs for i in range(pairs)) == list(range(pairs))
    begun = sorted(i * step % pairs for i in range(min(raters, pairs)))
    widest = max((b - a) % pairs for a, b in pairwise([*begun, begun[0] + pairs])) if len(begun) > 1 else pairs
    assert widest <= 3 * pairs / len(begun)


@settings(max_examples=50, deadline=None)
@given(SMALL, st.text(), st.integers(0, 1000))
def test_checks_and_comparisons_are_spread_for_every_rater(sizes, secret, number):
    trials = sheet(plan(study(**sizes), sorted(IDS), secret).lists, number)
    for kind in {met(trial) for trial in trials}:
        at = [position for position, trial in enumerate(trials) if met(trial) == kind]
        apart = 1.5 * len(trials) / len(at)  # on the circle, as far as the other kinds fill it evenly
        uneven = 1.5 * 4
        assert all(b - a <= apart + uneven for a, b in pairwise(at))
        assert at[0] + len(trials) - at[-1] <= apart + uneven


def test_where_a_check_stands_on_its_list_says_nothing():
    """Over many studies checks stand everywhere equally often: the law of their spread leaves their place free."""
    at = Counter(
        position
        for number in range(200)
        for position, trial in enumerate(plan(study(trials=8, catch=6), sorted(IDS), f"secret {number}").lists[0])
        if "mosaic" in met(trial)
    )
    assert len(at) == 30
    assert sum((count - 40) ** 2 / (40 * 24 / 30) for count in at.values()) < 60  # chi-squared of 29: 0.999 below 58


def test_the_order_mixes_the_comparisons():
    for trials in plan(study(trials=8), sorted(IDS), "secret").lists:
        kinds = [met(t) for t in trials]
        assert sum(a != b for a, b in pairwise(kinds)) > len(kinds) / 3
