"""Known preferences are found again, intervals are as wide as they must be, and changed files are refused."""

import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from ldm.cli import app
from ldm.files import read_json, write_json
from ldm.report import collect, sections
from ldm.report.records import Record
from ldm.study.scoring import score, write_parquet
from ldm.study.statistics import agreement, interval, sign_test, wilson
from ldm.study.store import Store

RANK = {"mosaic": 0, "second": 1, "first": 2, "original": 3}


def answered(study, path: Path, rater: int, /, *, prefer=RANK.__getitem__, **changes) -> Path:
    """A file of answers by a rater who always takes the side that `prefer` ranks higher, in the list of its turn."""
    own = study.lists[rater % len(study.lists)]
    trials = [
        {
            "trial": name,
            "choice": "left" if prefer(entry["left"]) > prefer(entry["right"]) else "right",
            "response_ms": 700,
            "shown_ms": 3000,
            "looks": 1,
        }
        for name, entry in ((name, study.trials[name]) for name in own)
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


def test_agreement_is_krippendorffs():
    """Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), example A: two observers, ten items."""
    meg, owen = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    chosen, pair = np.array(meg + owen, bool), np.tile(np.arange(10), 2)
    assert agreement(chosen, pair) == pytest.approx(0.095, abs=5e-4)
    alone = np.append(chosen, True), np.append(pair, 10)  # seen by one: says nothing of agreement
    assert agreement(*alone) == agreement(chosen, pair)


def test_agreement_is_one_where_all_agree_and_none_where_nobody_could_disagree():
    chosen, pair = np.tile([True, False, True], 4), np.tile([0, 1, 2], 4)
    assert agreement(chosen, pair) == 1
    assert agreement(np.ones(6, bool), np.repeat([0, 1], 3)) is None
    assert agreement(np.array([True, False]), np.array([0, 1])) is None


def test_the_sign_test_asks_each_rater_once():
    rater = np.repeat(np.arange(8), 5)
    mostly = np.tile([True, True, True, False, False], 8)
    assert sign_test(mostly, rater) == (8, 0, pytest.approx(2 / 2**8))
    assert sign_test(np.tile([True, False], 4), np.repeat(np.arange(4), 2)) == (0, 0, 1.0)


def test_the_sign_test_is_not_taken_in_by_raters_who_answer_alike():
    rng, found = np.random.default_rng(2), 0
    rater = np.repeat(np.arange(11), 20)
    for _ in range(400):
        leaning = rng.choice([0.2, 0.8], size=11)  # nobody is undecided, and all together are
        found += sign_test(rng.random(220) < leaning[rater], rater)[2] <= 0.05
    assert found / 400 <= 0.05


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
    always_left = [{"trial": t, "choice": "left", "response_ms": 1, "shown_ms": 1, "looks": 1} for t in study.lists[1]]
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


def test_raters_of_mirrored_lists_agree_where_they_choose_the_same_pictures(exported, tmp_path):
    study = exported()
    files = [answered(study, tmp_path / f"{i}.json", i) for i in range(6)]
    dissenting = answered(study, tmp_path / "6.json", 6, prefer={**RANK, "first": 1, "second": 2}.__getitem__)
    mixed = score(study.key, [*files, dissenting]).first_over_second
    assert mixed.agreement is not None
    assert (mixed.raters_for, mixed.raters_against, mixed.answers) == (6, 1, 7 * 4)
    assert mixed.other.raters_for == 1
    # Twelve pairs of two raters, four of them seen a third time by the one who chose otherwise.
    assert mixed.agreement == pytest.approx(1 - 27 * (4 * 2 * 1 / 2) / (24 * 4))


def test_every_answer_is_a_row_with_what_stood_where(exported, tmp_path):
    study = exported()
    careless = answered(study, tmp_path / "1.json", 1, prefer=lambda shown: -RANK[shown])
    careful = answered(study, tmp_path / "2.json", 2)
    write_parquet(tmp_path / "answers.parquet", study.key, [careful, careless])
    rows = pq.read_table(tmp_path / "answers.parquet").to_pylist()
    assert len(rows) == 2 * 14
    for row in rows:
        entry = study.trials[row["trial"]]
        names = {"first": "careful-model", "second": "hasty-model"}
        assert row["source"] == entry["source"]
        assert row["left"] == names.get(entry["left"], entry["left"])
        assert row["chosen"] == row[row["choice"]]
        assert {row["left"], row["right"]} == set(row["comparison"].split(" | "))
    assert {(row["rater"], row["counted"]) for row in rows} == {(f"{1:016x}", False), (f"{2:016x}", True)}
    assert all(row["finished"] for row in rows)


def test_answers_of_who_stopped_are_kept_and_not_counted(exported, tmp_path):
    study = exported()
    whole = answered(study, tmp_path / "1.json", 1)
    store = Store(study.key.with_name("answers.db"), json.loads(study.key.read_text())["study"], study.lists)
    for number in range(3):
        store.enrol(f"{number:016x}", "secret")
    some = [{"choice": "left", "response_ms": 1, "shown_ms": 1, "looks": 1, "trial": t} for t in study.lists[0][:5]]
    store.record(f"{0:016x}", "secret", some)
    store.close()
    answers = [whole, study.key.with_name("answers.db")]
    result = score(study.key, answers)
    assert (result.counted, result.unfinished) == (1, 2)  # rater 1 finished, in a file of the page
    write_parquet(tmp_path / "answers.parquet", study.key, answers)
    rows = pq.read_table(tmp_path / "answers.parquet").to_pylist()
    stopped = [row for row in rows if not row["finished"]]
    assert [row["trial"] for row in stopped] == sorted(study.lists[0][:5])
    assert not any(row["counted"] for row in stopped)
    assert len(rows) - len(stopped) == 14


def test_a_key_that_the_page_was_not_sealed_with_is_refused(exported, tmp_path):
    study = exported()
    answers = answered(study, tmp_path / "1.json", 1)
    assert score(study.key, [answers]).counted == 1
    values = read_json(study.key)
    trial = values["trials"][study.lists[1][0]]
    trial["left"], trial["right"] = trial["right"], trial["left"]
    write_json(study.key, values)
    with pytest.raises(ValueError, match=r"key\.json: not the key that .*index\.html was sealed with"):
        score(study.key, [answers])


def test_a_rater_counts_once_and_the_order_of_files_and_answers_does_not_matter(exported, tmp_path):
    study = exported()
    one = answered(study, tmp_path / "one.json", 1)
    two = answered(study, tmp_path / "two.json", 2)
    copy = tmp_path / "one (1).json"
    copy.write_bytes(one.read_bytes())
    assert score(study.key, [one, copy, two]) == score(study.key, [one, two])
    assert score(study.key, [two, one]).first_over_second == score(study.key, [one, two]).first_over_second
    assert score(study.key, [one, copy]).counted == 1
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
    stray = {"trial": study.lists[0][0]}
    assert "is of another rater's list" in refused(trials=[*trials[1:], trials[0] | stray])
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

    def command(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["study", *map(str, arguments)], env={"COLUMNS": "120"})

    done = command("score", study.key, answers, "--json", tmp_path / "figures.json")
    assert done.exit_code == 0, done.output
    assert "Task 2: over each other" in done.stdout
    assert "100.0 [51.0, 100.0]" in done.stdout
    assert "1 of 1 raters counted; 0 left out" in done.stdout
    share = json.loads((tmp_path / "figures.json").read_text())["first_over_second"]
    assert (share["chosen"], share["answers"], share["share"]) == (4, 4, 1.0)
    assert "Examples" in command("score", "--help").stdout
    failed = command("score", study.key, tmp_path / "absent.json")
    assert (failed.exit_code, failed.stderr.count("\n")) == (1, 1)


def test_the_report_shows_what_the_command_wrote_of_this_very_export(exported, tmp_path):
    study = exported()
    files = [answered(study, tmp_path / f"{i}.json", i) for i in range(3)]
    careless = answered(study, tmp_path / "careless.json", 3, prefer=lambda shown: -RANK[shown])
    out = study.key.with_name("preferences.json")
    command = ["study", "score", str(study.key), *map(str, [*files, careless]), "--json", str(out)]
    assert CliRunner().invoke(app, command).exit_code == 0
    names = Record({"first": "careful-model", "second": "hasty-model"}, "params.yaml")

    def shown():
        return sections.study(collect.read_study("study", names, study.key.parent))

    view = shown()
    table_4 = [[(cell.value, cell.interval, cell.beside) for cell in row.cells] for row in view.table.rows]
    never = "0.0 %", "[0.0, 24.2]", "0 of 12"
    assert (view.scored, view.table.columns) == (True, ("careful-model", "hasty-model"))
    assert table_4 == [[never, never], [("100.0 %", "[75.8, 100.0]", "12 of 12"), never]]
    assert "of 3 raters; 1 left out" in view.table.notes[0]
    assert "careful-model over hasty-model 3 : 0 (p = 0.25)" in view.table.notes[2]

    write_json(out, read_json(out) | {"study": "0" * 16})
    view = shown()
    assert not view.scored
    assert [cell.value for row in view.table.rows for cell in row.cells] == ["4 pairs"] * 3 + ["the same pairs"]
    assert "of another export of this study" in view.table.notes[1]
    out.unlink()
    assert len(shown().table.notes) == 1
