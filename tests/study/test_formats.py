"""A study in other platforms' formats is whole and tells nothing; what comes back is counted as the page's is."""

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ldm.study.formats import FORMATS, convert, table
from ldm.study.scoring import score
from tests.browser import chromium
from tests.study.samples import Exported

URL = "https://example.org/study"
RANK = {"mosaic": 0, "second": 1, "first": 2, "original": 3}


def preferred(study: Exported, trial: str) -> str:
    entry = study.trials[trial]
    return "left" if RANK[entry["left"]] > RANK[entry["right"]] else "right"


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8"), newline="")))


@pytest.mark.parametrize("to", FORMATS)
def test_nothing_written_names_a_method_or_an_original(exported, tmp_path, to):
    study = exported()
    for path in convert(study.public.parent, to, URL, tmp_path / "out"):
        content = path.read_text()
        for secret in ("careful", "hasty", "mosaic", *(t["source"] for t in study.trials.values())):
            assert secret not in content, (path, secret)


@pytest.mark.parametrize("to", FORMATS)
def test_two_conversions_are_equal_to_the_byte(exported, tmp_path, to):
    study = exported()
    one, two = (convert(study.public.parent, to, URL, tmp_path / name) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_label_studio_has_a_task_for_each_trial_and_pictures_that_exist(exported, tmp_path):
    study = exported(question="Which <one> costs $5 & more?")
    convert(study.public.parent, "label-studio", URL, out := tmp_path / "out")
    for number, names in enumerate(study.lists):
        tasks = [task["data"] for task in json.loads((out / f"tasks-{number}.json").read_text())]
        assert [task["trial"] for task in tasks] == names
        for task in tasks:
            for slot in ("left", "middle", "right"):
                assert (study.public / task[slot].removeprefix(f"{URL}/")).is_file()
    view = ElementTree.parse(out / "labeling.xml").getroot()
    assert {image.get("value") for image in view.iter("Image")} == {"$left", "$middle", "$right"}
    (pairwise,) = view.iter("Pairwise")
    assert set(pairwise.get("toName").split(",")) < {image.get("name") for image in view.iter("Image")}


def test_answers_come_back_from_label_studio(exported, tmp_path):
    study = exported()
    convert(study.public.parent, "label-studio", URL, out := tmp_path / "out")
    tasks = json.loads((out / "tasks-3.json").read_text())

    def annotation(by: object, trial: str, **changes) -> dict:
        result = [{"type": "pairwise", "from_name": "choice", "value": {"selected": preferred(study, trial)}}]
        return {"completed_by": by, "lead_time": 2.5, "was_cancelled": False, "result": result} | changes

    for task in tasks:
        trial = task["data"]["trial"]
        skipped = annotation(4, trial, was_cancelled=True, result=[])
        task["annotations"] = [annotation(3, trial), annotation({"id": 7, "email": "x"}, trial), skipped]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    result = score(study.key, [tmp_path / "export.json"])
    assert (result.counted, result.first_over_second.share, result.first_over_original.share) == (2, 1, 0)
    assert {rater.seconds for rater in result.raters} == {2.5}
    tasks[5]["annotations"] = tasks[5]["annotations"][1:]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    result = score(study.key, [tmp_path / "export.json"])
    assert (result.counted, result.unfinished) == (1, 1)
    (tmp_path / "export.json").write_text(json.dumps([{"data": {}}]))
    with pytest.raises(ValueError, match="not an export of Label Studio"):
        score(study.key, [tmp_path / "export.json"])


def test_tables_have_a_row_for_each_trial_and_a_link_for_each_list(exported, tmp_path):
    study = exported()
    convert(study.public.parent, "csv", URL, out := tmp_path / "out")
    for number, names in enumerate(study.lists):
        batch = rows(out / f"batch-{number}.csv")
        assert [row["trial"] for row in batch] == names
        for row in batch:
            for slot in ("left", "middle", "right"):
                assert (study.public / row[f"{slot}_url"].removeprefix(f"{URL}/")).is_file()
    assert [row["url"] for row in rows(out / "links.csv")] == [f"{URL}/index.html?list={n}" for n in range(6)]
    layout = (out / "task.html").read_text()
    assert all(f"${{{name}}}" in layout for name in ("question", "left_url", "middle_url", "right_url"))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_field_is_a_formula(text):
    (row,) = csv.DictReader(io.StringIO(table([{"question": text, "list": -1}]).decode(), newline=""))
    assert row == {"question": f"'{text}", "list": "-1"}


def test_fields_come_back_from_a_table_as_they_were():
    words = 'Wähle, "links" oder\nrechts?'
    (row,) = csv.DictReader(io.StringIO(table([{"question": words}]).decode("utf-8"), newline=""))
    assert row["question"] == words


def test_answers_come_back_from_a_batch_of_tasks(exported, tmp_path):
    study = exported()
    results = [
        {
            "AssignmentStatus": status,
            "WorkerId": worker,
            "Input.study": study.page["study"],
            "Input.trial": trial,
            "Answer.choice": preferred(study, trial),
            "WorkTimeInSeconds": 4,
        }
        for worker, number, status in (("A1", 0, "Approved"), ("B2", 1, "Submitted"), ("C3", 1, "Rejected"))
        for trial in study.lists[number]
    ]
    file = tmp_path / "results.csv"
    file.write_bytes(table(results))
    result = score(study.key, [file])
    assert (result.counted, result.first_over_second.share) == (2, 1)
    assert all("A1" not in rater.name for rater in result.raters)
    file.write_bytes(table(results[: 14 + 8]))  # B2 stopped after 8 of 14 tasks
    result = score(study.key, [file])
    assert (result.counted, result.unfinished, result.first_over_second.answers) == (1, 1, 4)
    file.write_bytes(table(results[:8]))
    with pytest.raises(ValueError, match=r"key\.json: nobody has finished yet, 1 began"):
        score(study.key, [file])
    other = tmp_path / "later.csv"  # the rest of the batch, downloaded when it was done
    other.write_bytes(table(results[8:28]))
    assert (score(study.key, [file, other]).counted, score(study.key, [file, other]).unfinished) == (2, 0)
    file.write_bytes(table([{"WorkerId": "A1"}]))
    with pytest.raises(ValueError, match=r"no column Input\.study"):
        score(study.key, [file])


def test_jspsych_has_every_pair_looked_at_for_its_time_and_answered(exported, tmp_path):
    study = exported(question="Which </script> is <b>better</b>?", seconds=3.0)
    convert(study.public.parent, "jspsych", URL, out := tmp_path / "out")
    timeline = json.loads((out / "timeline.json").read_text())
    for names, steps in zip(study.lists, timeline["lists"], strict=True):
        looks = [step for step in steps if step["data"]["kind"] == "trial" and step["data"]["part"] == "look"]
        choices = [step for step in steps if step["data"]["kind"] == "trial" and step["data"]["part"] == "choose"]
        assert [step["data"]["trial"] for step in looks] == [step["data"]["trial"] for step in choices] == names
        assert {step["trial_duration"] for step in looks} == {3000}
        assert all(step["stimulus"].count("<img") == 3 and "<b>" not in step["stimulus"] for step in looks)
        assert {step["type"] for step in steps} == {"html-keyboard-response"}
    page = (out / "index.html").read_text()
    inside = page.split('id="timeline">')[1].split("</script>")[0]
    assert json.loads(inside) == timeline


JSPSYCH = """
var jsPsychPreload, jsPsychHtmlKeyboardResponse;
const shuffle = (all) => all.map((one) => [Math.random(), one]).sort((a, b) => a[0] - b[0]).map((p) => p[1]);
const initJsPsych = () => ({
  randomization: { shuffle },
  run: (steps) => { window.steps = steps.map((step) => step.data).filter(Boolean); },
});
"""
"""Of jsPsych no more than what takes the timeline; the real one, 8.3, was tried by hand."""


def test_jspsych_gives_each_rater_an_order_of_their_own(exported, tmp_path):
    study = exported(trials=4, practice=2)
    convert(study.public.parent, "jspsych", URL, out := tmp_path / "out")
    (out / "jspsych").mkdir()
    (out / "jspsych/jspsych.js").write_text(JSPSYCH)
    orders = []
    with chromium() as browser:
        for _ in range(2):
            page = browser.new_page()
            page.goto((out / "index.html").as_uri() + "?list=1")
            steps = page.evaluate("window.steps")
            assert [step["part"] for step in steps] == ["look", "choose"] * (len(steps) // 2)
            assert [step["trial"] for step in steps[::2]] == [step["trial"] for step in steps[1::2]]
            assert [step["kind"] for step in steps] == ["practice"] * 4 + ["trial"] * (len(steps) - 4)
            orders.append([step["trial"] for step in steps[4::2]])
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(study.lists[1])
    assert orders[0] != orders[1]


def test_what_cannot_be_converted_is_refused_in_one_line(exported, tmp_path):
    study = exported()
    for folder, to, url, out, message in (
        (study.public.parent, "excel", URL, "a", "--to excel: one of label-studio, csv, jspsych"),
        (study.public.parent, "csv", "javascript:alert(1)", "a", "the address of the public folder"),
        (study.public.parent, "csv", f"{URL}?x=1", "a", "the address of the public folder"),
        (tmp_path / "nowhere", "csv", URL, "a", "export the study first"),
        (study.public.parent, "csv", URL, study.public, "not an empty folder"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            convert(folder, to, url, tmp_path / out)
        assert "\n" not in str(caught.value)
