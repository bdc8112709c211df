"""Known preferences are found again, intervals are as wide as they must be, and changed files are refused."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ldm.study.scoring import interval, score, wilson

RANK = {"mosaic": 0, "second": 1, "first": 2, "original": 3}


def answered(study, path: Path, rater: int, /, *, prefer=RANK.__getitem__, **changes) -> Path:
    """A file of answers by a rater who always takes the side that `prefer` ranks higher."""
    trials = [
        {
            "trial": name,
            "choice": "left" if prefer(entry["left"]) > prefer(entry["right"]) else "right",
            "response_ms": 700,
            "shown_ms": 3000,
            "looks": 1,
        }
        for name, entry in study.trials.items()
    ]
    values = {"study": json.loads(study.key.read_text())["study"], "rater": f"{rater:016x}", "trials": trials}
    path.write_text(json.dumps(values | changes))
    return path


@pytest.mark.parametrize(
    ("chosen", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_the_published_intervals(chosen, n, low, high):
    """Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3."""
    assert wilson(chosen / n, n) == pytest.approx((low, high), abs=5e-5)


def test_one_rater_gets_the_plain_interval():
    chosen = np.arange(20) < 7
    assert interval(chosen, np.zeros(20, int), np.arange(20)) == wilson(7 / 20, 20)


def test_copying_a_rater_does_not_narrow_the_interval():
    chosen = np.arange(20) < 7
    low, high = interval(np.tile(chosen, 5), np.repeat(np.arange(5), 20), np.tile(np.arange(20), 5))
    assert high - low >= np.subtract(*wilson(7 / 20, 20)[::-1])


def test_intervals_cover_where_raters_and_pictures_differ():
    rng, raters, pairs, covered, plain = np.random.default_rng(1), 10, 20, 0, 0
    logits = -0.8 + 0.7 * rng.normal(size=(2, 100_000)).sum(0)
    truth = (1 / (1 + np.exp(-logits))).mean()
    rater, pair = (grid.ravel() for grid in np.indices((raters, pairs)))
    for _ in range(300):
        logit = -0.8 + 0.7 * rng.normal(size=(raters, 1)) + 0.7 * rng.normal(size=(1, pairs))
        chosen = (rng.random((raters, pairs)) < 1 / (1 + np.exp(-logit))).ravel()
        low, high = interval(chosen, rater, pair)
        covered += low <= truth <= high
        low, high = wilson(chosen.mean(), chosen.size)
        plain += low <= truth <= high
    assert covered / 300 > 0.88 > plain / 300


def test_a_known_preference_is_found(exported, tmp_path):
    study = exported(trials=8)
    result = score(study.key, [answered(study, tmp_path / f"{i}.json", i) for i in range(3)])
    assert (result.first, result.second) == ("careful-model", "hasty-model")
    assert result.first_over_original.share == result.second_over_original.share == 0
    assert result.first_over_second.share == 1
    assert result.first_over_second.answers == 3 * 8
    assert result.first_over_second.other.chosen == 0


def test_sides_chosen_blindly_prefer_nothing(exported, tmp_path):
    study = exported(trials=8, catch=0)
    always_left = [{"trial": t, "choice": "left", "response_ms": 1, "shown_ms": 1, "looks": 1} for t in study.trials]
    result = score(study.key, [answered(study, tmp_path / "a.json", 1, trials=always_left)])
    assert {result.first_over_original.share, result.second_over_original.share, result.first_over_second.share} == {
        0.5
    }


def test_a_rater_who_fails_the_attention_checks_is_left_out(exported, tmp_path):
    study = exported()
    careless = answered(study, tmp_path / "careless.json", 1, prefer=lambda shown: -RANK[shown])
    careful = answered(study, tmp_path / "careful.json", 2)
    result = score(study.key, [careless, careful])
    assert [(r.right, r.checks, r.counted) for r in result.raters] == [(0, 2, False), (2, 2, True)]
    assert result.first_over_second.answers == 4
    with pytest.raises(ValueError, match="none of 1 raters passed the attention checks"):
        score(study.key, [careless])


def test_a_rater_counts_once_and_the_order_of_files_and_answers_does_not_matter(exported, tmp_path):
    study = exported()
    one = answered(study, tmp_path / "one.json", 1)
    two = answered(study, tmp_path / "two.json", 2)
    copy = tmp_path / "one (1).json"
    copy.write_bytes(one.read_bytes())
    assert score(study.key, [one, copy, two]) == score(study.key, [one, two])
    assert score(study.key, [two, one]).first_over_second == score(study.key, [one, two]).first_over_second
    values = json.loads(one.read_text())
    random.Random(0).shuffle(values["trials"])
    two.write_text(json.dumps(values | {"rater": "f" * 16}))
    assert score(study.key, [two]).first_over_second == score(study.key, [one]).first_over_second


def test_files_that_cannot_be_answers_to_the_study_are_refused(exported, tmp_path):
    study = exported()
    good = answered(study, tmp_path / "good.json", 1)
    trials = json.loads(good.read_text())["trials"]

    def refused(**changes) -> str:
        bad = answered(study, tmp_path / "bad.json", 1, **changes)
        with pytest.raises(ValueError, match=r"bad\.json") as caught:
            score(study.key, [good, bad])
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "the key is of study" in refused(study="0" * 16)
    assert "trial stranger is not of this study" in refused(trials=[*trials, trials[0] | {"trial": "stranger"}])
    assert "is answered twice" in refused(trials=[*trials, trials[0]])
    assert f"answers {len(trials) - 1} of {len(trials)} trials" in refused(trials=trials[1:])
    assert "answers.trials.0.choice" in refused(trials=[trials[0] | {"choice": "both"}, *trials[1:]])
    assert "unknown key 'name'" in refused(name="Anna")
    assert "chose otherwise" in refused(prefer=lambda shown: -RANK[shown])
    (tmp_path / "bad.json").write_text("<html>")
    with pytest.raises(ValueError, match="not JSON"):
        score(study.key, [tmp_path / "bad.json"])
    with pytest.raises(ValueError, match="cannot be read"):
        score(study.key, [tmp_path / "absent.json"])


def test_the_command_prints_the_table_and_one_line_for_a_mistake(exported, tmp_path):
    study = exported()
    answers = answered(study, tmp_path / "a.json", 1)

    def command(*arguments: object) -> subprocess.CompletedProcess:
        line = [sys.executable, "-m", "ldm.study", *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, check=False, env={"COLUMNS": "120", "PATH": ""})

    done = command("score", study.key, answers, "--json", tmp_path / "figures.json")
    assert done.returncode == 0, done.stderr
    assert "Task 2: over each other" in done.stdout
    assert "100.0 [51.0, 100.0]" in done.stdout
    assert json.loads((tmp_path / "figures.json").read_text())["first_over_second"]["chosen"] == 4
    assert "Examples" in command("score", "--help").stdout
    failed = command("score", study.key, tmp_path / "absent.json")
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
