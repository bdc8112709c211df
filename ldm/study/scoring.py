"""Preferences as in table 4 of the paper: who counts, how sure they are, how far raters agree, and every answer."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ldm.files import whole
from ldm.study.answers import Answers, Key, read_answers, read_key
from ldm.study.statistics import agreement, design_effect, sign_test, wilson
from ldm.study.trials import COMPARISONS, EVIDENT, Shown


@dataclass(frozen=True, kw_only=True)
class Share:
    """How often the one was chosen over the other: `chosen` of `answers`, and the interval of that share, in [0, 1]."""

    chosen: int
    answers: int
    low: float
    high: float
    design_effect: float
    """How many clustered answers are worth one independent one; what a power calculation of a next study takes."""
    agreement: float | None
    """Krippendorff's alpha between raters of the same pair; None where it has no meaning."""
    raters_for: int
    """Raters who chose the one more often."""
    raters_against: int
    p: float
    """Of the two-sided sign test on these raters."""

    @property
    def share(self) -> float:
        return self.chosen / self.answers

    @property
    def other(self) -> "Share":
        """The same answers, seen from the other side."""
        return replace(
            self,
            chosen=self.answers - self.chosen,
            low=1 - self.high,
            high=1 - self.low,
            raters_for=self.raters_against,
            raters_against=self.raters_for,
        )


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
    task: str
    first: str
    second: str
    catch_pass: float
    """Who got a smaller part of the attention checks right is left out."""
    counted: int
    """Raters whose answers the shares are made of."""
    left_out: int
    unfinished: int
    """Raters of a server's database, or of another platform, who began and did not come to the end."""
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
    read = read_answers(answers, opened)
    everyone = read.finished
    if not everyone:
        raise ValueError(f"{key}: nobody has finished yet, {len(read.unfinished)} began; ask more raters")
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
        task=opened.task,
        first=opened.first,
        second=opened.second,
        catch_pass=opened.catch_pass,
        counted=len(counted),
        left_out=len(everyone) - len(counted),
        unfinished=len(read.unfinished),
        first_over_original=first,
        second_over_original=second,
        first_over_second=each_other,
        raters=raters,
    )


def figures(result: Score) -> dict[str, Any]:
    """The score as plain values, each share beside the counts that it is made of."""
    shares = {name: one for name, one in vars(result).items() if isinstance(one, Share)}
    return asdict(result) | {name: asdict(one) | {"share": one.share} for name, one in shares.items()}


def write_parquet(path: Path, key: Path, answers: Sequence[Path]) -> None:
    """Every answer of every rater as a row, with what stood where: sorted by rater and trial.

    Those left out are there too, and those who did not finish.
    """
    opened = read_key(key)
    rows = []
    read = read_answers(answers, opened)
    ends = {one.rater: _rater(opened, one).counted for one in read.finished}
    for one in sorted([*read.finished, *read.unfinished], key=lambda one: one.rater):
        for answer in sorted(one.trials, key=lambda a: a.trial):
            trial = opened.trials[answer.trial]
            comparison = next(c for c in (*COMPARISONS, EVIDENT) if {trial.left, trial.right} == set(c))
            rows.append(
                {
                    "rater": one.rater,
                    "trial": answer.trial,
                    "source": trial.source,
                    "comparison": " | ".join(opened.names[shown] for shown in comparison),
                    "left": opened.names[trial.left],
                    "right": opened.names[trial.right],
                    "choice": answer.choice,
                    "chosen": opened.names[_chosen(opened, answer.trial, answer.choice)],
                    "response_ms": answer.response_ms,
                    "shown_ms": answer.shown_ms,
                    "looks": answer.looks,
                    "finished": one.rater in ends,
                    "counted": ends.get(one.rater, False),
                }
            )
    with whole(path) as beside:
        pq.write_table(pa.Table.from_pylist(rows), beside)


def _chosen(key: Key, trial: str, choice: str) -> Shown:
    entry = key.trials[trial]
    return entry.left if choice == "left" else entry.right


def _rater(key: Key, answers: Answers) -> Rater:
    checks = [a for a in answers.trials if {key.trials[a.trial].left, key.trials[a.trial].right} == set(EVIDENT)]
    right = sum(_chosen(key, a.trial, a.choice) == EVIDENT[0] for a in checks)
    return Rater(
        name=answers.rater,
        right=right,
        checks=len(checks),
        counted=right >= key.catch_pass * len(checks),
        seconds=median(a.response_ms for a in answers.trials) / 1000,
        seen_again=sum(a.looks > 1 for a in answers.trials),
    )


def _share(key: Key, raters: Sequence[Answers], one: Shown, other: Shown) -> Share:
    """Lists show the same pair on other sides, so a pair is known by its original."""
    wanted = {name: trial for name, trial in key.trials.items() if {trial.left, trial.right} == {one, other}}
    rows = [
        (_chosen(key, a.trial, a.choice) == one, answers.rater, wanted[a.trial].source)
        for answers in raters
        for a in answers.trials
        if a.trial in wanted
    ]
    choices, names, sources = zip(*rows, strict=True)
    chosen = np.array(choices)
    rater, pair = (np.unique(cluster, return_inverse=True)[1] for cluster in (names, sources))
    effect = design_effect(chosen, rater, pair)
    low, high = wilson(float(chosen.mean()), len(chosen) / effect)
    raters_for, raters_against, p = sign_test(chosen, rater)
    return Share(
        chosen=int(chosen.sum()),
        answers=len(chosen),
        low=low,
        high=high,
        design_effect=effect,
        agreement=agreement(chosen, pair),
        raters_for=raters_for,
        raters_against=raters_against,
        p=p,
    )
