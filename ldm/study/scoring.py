"""Preferences as in table 4 of the paper, with intervals that know that answers of one rater are alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from jaxtyping import Bool, Int
from scipy.stats import norm

from ldm.study.answers import Answers, Key, read_answers, read_key
from ldm.study.trials import COMPARISONS, EVIDENT, Shown

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Share:
    """How often the one was chosen over the other: `chosen` of `answers`, and the interval of that share, in [0, 1]."""

    chosen: int
    answers: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.chosen / self.answers

    @property
    def other(self) -> "Share":
        """The same answers, seen from the other side."""
        return Share(chosen=self.answers - self.chosen, answers=self.answers, low=1 - self.high, high=1 - self.low)


@dataclass(frozen=True, kw_only=True)
class Rater:
    name: str
    right: int
    """Attention checks answered right, of `checks`."""
    checks: int
    counted: bool
    seconds: float
    """Median time to answer."""
    seen_again: int
    """Pairs that were shown more than once."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Table 4 of the paper for one study."""

    study: str
    first: str
    second: str
    first_over_original: Share
    """Task 1."""
    second_over_original: Share
    """Task 1."""
    first_over_second: Share
    """Task 2."""
    raters: tuple[Rater, ...]


def score(key: Path, answers: Sequence[Path]) -> Score:
    """Count the preferences of the raters who passed the attention checks.

    ValueError of one line where a file is not whole, not of this study or changed, or where no rater is left.
    """
    opened = read_key(key)
    everyone = read_answers(answers, opened)
    raters = tuple(_rater(opened, one) for one in everyone)
    counted = [one for one, rater in zip(everyone, raters, strict=True) if rater.counted]
    if not counted:
        raise ValueError(
            f"{key}: none of {len(raters)} raters passed the attention checks (catch_pass {opened.catch_pass:g}); "
            "ask more raters"
        )
    first, second, each_other = (_share(opened, counted, *comparison) for comparison in COMPARISONS)
    return Score(
        study=opened.study,
        first=opened.first,
        second=opened.second,
        first_over_original=first,
        second_over_original=second,
        first_over_second=each_other,
        raters=raters,
    )


def _rater(key: Key, answers: Answers) -> Rater:
    checks = [a for a in answers.trials if {key.trials[a.trial].left, key.trials[a.trial].right} == set(EVIDENT)]
    right = sum(getattr(key.trials[a.trial], a.choice) == EVIDENT[0] for a in checks)
    return Rater(
        name=answers.rater,
        right=right,
        checks=len(checks),
        counted=right >= key.catch_pass * len(checks),
        seconds=median(a.response_ms for a in answers.trials) / 1000,
        seen_again=sum(a.looks > 1 for a in answers.trials),
    )


def _share(key: Key, raters: Sequence[Answers], one: Shown, other: Shown) -> Share:
    wanted = {name for name, trial in key.trials.items() if {trial.left, trial.right} == {one, other}}
    rows = [
        (getattr(key.trials[a.trial], a.choice) == one, number, a.trial)
        for number, answers in enumerate(raters)
        for a in answers.trials
        if a.trial in wanted
    ]
    chosen, rater, trial = zip(*rows, strict=True)
    low, high = interval(np.array(chosen), np.array(rater), np.unique(trial, return_inverse=True)[1])
    return Share(chosen=sum(chosen), answers=len(rows), low=low, high=high)


def interval(
    chosen: Bool[np.ndarray, " n"], rater: Int[np.ndarray, " n"], pair: Int[np.ndarray, " n"]
) -> tuple[float, float]:
    """Wilson's 95 % interval of the mean of `chosen`; with several raters, at the effective number of answers.

    n answers of several raters to the same pairs are worth fewer than n independent ones. The design effect is the
    variance of the mean with answers clustered, over the binomial one; clusters by rater and by pair each count
    for what they add (never less than nothing), and Wilson's formula takes n over it, as in Franco, Little, Louis and
    Slud, "Comparative study of confidence intervals for proportions in complex sample surveys" (2019). Where all
    answers agree nothing can be said of their likeness, and n stands.
    """
    n, share = len(chosen), float(chosen.mean())
    effect = 1.0
    if len(np.unique(rater)) > 1 and 0 < share < 1:
        residual = chosen - share
        effect += sum(max(0.0, _design_effect(residual, clusters) - 1) for clusters in (rater, pair))
    return wilson(share, n / effect)


def _design_effect(residual: np.ndarray, cluster: np.ndarray) -> float:
    """Variance of the mean with these clusters over that without any."""
    sums = np.bincount(np.unique(cluster, return_inverse=True)[1], weights=residual)
    count = len(sums)
    if count < 2:
        return 1.0
    return float(count / (count - 1) * (sums**2).sum() / (residual**2).sum())


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion `share` in [0, 1] seen in `n` answers (Wilson 1927)."""
    z = norm.ppf((1 + CONFIDENCE) / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
