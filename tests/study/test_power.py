"""The raters asked for find the difference as often as was promised, in simulated studies; no more are asked for."""

import numpy as np
import pytest
from ruamel.yaml import YAML
from scipy.stats import binom
from typer.testing import CliRunner

from ldm.cli import app
from ldm.study.power import design_effect, power, raters_needed
from ldm.study.statistics import interval, wilson
from tests.study.samples import settings

ALIKE = {"raters_alike": 0.1, "pictures_alike": 0.03}


def found(rng: np.random.Generator, share: float, raters: int, trials: int) -> bool:
    """Whether the interval of one simulated study, three rotations of its pictures, leaves out one half.

    Answers of one rater have correlation 0.1, to one picture 0.03: each moves the chance by a fixed amount up or down.
    """
    spread = np.sqrt(share * (1 - share))
    leaning = spread * np.sqrt(ALIKE["raters_alike"]) * rng.choice([-1, 1], raters)
    ease = spread * np.sqrt(ALIKE["pictures_alike"]) * rng.choice([-1, 1], 3 * trials)
    rater = np.repeat(np.arange(raters), trials)
    pair = (np.arange(raters) % 3)[:, None] * trials + np.arange(trials)
    chance = share + leaning[rater] + ease[pair.ravel()]
    low, high = interval(rng.random(len(rater)) < chance, rater, pair.ravel())
    return low > 0.5 or high < 0.5


def test_simulated_studies_find_the_difference_as_often_as_promised():
    raters = raters_needed(0.6, 20, wanted=0.8, **ALIKE)
    rng = np.random.default_rng(3)
    share = np.mean([found(rng, 0.6, raters, 20) for _ in range(600)])
    assert share == pytest.approx(0.8, abs=0.06)


def test_independent_answers_need_what_the_binomial_says():
    answers = raters_needed(0.6, 1, wanted=0.8, effect=1.0)
    told = [k for k in range(answers + 1) if not (lambda low, high: low <= 0.5 <= high)(*wilson(k / answers, answers))]
    assert binom.pmf(told, answers, 0.6).sum() == pytest.approx(0.8, abs=0.02)
    assert 190 <= answers <= 200  # 194 by the score test's formula


def test_the_number_is_the_least_that_is_enough():
    for share in (0.55, 0.3, 0.75):
        raters = raters_needed(share, 40, wanted=0.9, **ALIKE)
        assert power(share, raters, 40, design_effect(raters, 40, **ALIKE)) >= 0.9
        assert power(share, raters - 1, 40, design_effect(raters - 1, 40, **ALIKE)) < 0.9


def test_both_sides_of_one_half_are_alike():
    assert raters_needed(0.4, 20) == raters_needed(0.6, 20)


def test_more_raters_do_not_make_more_pictures():
    with pytest.raises(ValueError, match=r"no number of raters tells 0.52 from one half .* raise trials"):
        raters_needed(0.52, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 0.5}, "difference 0.5"),
        ({"share": 1.5}, "difference 1.5"),
        ({"trials": 0}, "trials 0"),
        ({"wanted": 1.0}, "power 1"),
        ({"effect": 0.5}, "design effect 0.5"),
        ({"pictures_alike": -1.0}, "pictures alike -1"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        raters_needed(**{"share": 0.6, "trials": 20} | arguments)


def test_the_command_takes_trials_or_a_row(tmp_path):
    params = tmp_path / "params.yaml"
    with params.open("w") as file:
        YAML().dump({"studies": {"mine": settings(trials=20).model_dump()}}, file)
    by_row = CliRunner().invoke(app, ["study", "power", "mine", "--difference", "0.6", "--params", str(params)])
    by_trials = CliRunner().invoke(app, ["study", "power", "--trials", "20", "--difference", "0.6"])
    assert by_row.exit_code == by_trials.exit_code == 0
    assert by_row.output == by_trials.output
    assert by_row.output.startswith(f"{raters_needed(0.6, 20)} raters")
    assert CliRunner().invoke(app, ["study", "power", "--difference", "0.6"]).exit_code == 1
