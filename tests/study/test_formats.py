"""A study in other platforms' formats is whole and tells nothing; what comes back is counted as the page's is."""

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Page, expect

from ldm.study.formats import FORMATS, convert, table
from ldm.study.scoring import score
from ldm.study.trials import sheet
from tests.browser import chromium
from tests.study.samples import Exported

URL = "https://example.org/study"
RATERS = 8
RANK = {"mosaic": 0, "second": 1, "first": 2, "original": 3}


def preferred(study: Exported, trial: str) -> str:
    entry = study.trials[trial]
    return "left" if RANK[entry["left"]] > RANK[entry["right"]] else "right"


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8"), newline="")))


@pytest.mark.parametrize("to", FORMATS)
def test_nothing_written_names_a_method_or_an_original(exported, tmp_path, to):
    study = exported()
    for path in convert(study.public.parent, to, URL, tmp_path / "out", RATERS):
        content = path.read_text()
        for secret in ("careful", "hasty", "mosaic", *(t["source"] for t in study.trials.values())):
            assert secret not in content, (path, secret)


@pytest.mark.parametrize("to", FORMATS)
def test_two_conversions_are_equal_to_the_byte(exported, tmp_path, to):
    study = exported()
    one, two = (convert(study.public.parent, to, URL, tmp_path / name, RATERS) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_label_studio_has_a_task_for_each_trial_and_pictures_that_exist(exported, tmp_path):
    study = exported(question="Which <one> costs $5 & more?")
    convert(study.public.parent, "label-studio", URL, out := tmp_path / "out", RATERS)
    for number in range(RATERS):
        tasks = [task["data"] for task in json.loads((out / f"tasks-{number:03d}.json").read_text())]
        assert [task["trial"] for task in tasks] == sheet(study.lists, number)
        assert [(task["sheet"], task["position"]) for task in tasks] == [(number, p) for p in range(len(tasks))]
        for task in tasks:
            for slot in ("left", "middle", "right"):
                assert (study.public / task[slot].removeprefix(f"{URL}/")).is_file()
    view = ElementTree.parse(out / "labeling.xml").getroot()
    assert {image.get("value") for image in view.iter("Image")} == {"$left", "$middle", "$right"}
    (pairwise,) = view.iter("Pairwise")
    assert set(pairwise.get("toName").split(",")) < {image.get("name") for image in view.iter("Image")}
    assert "THE TIME IS NOT LIMITED" in (out / "README.txt").read_text()


def test_answers_come_back_from_label_studio(exported, tmp_path):
    study = exported()
    convert(study.public.parent, "label-studio", URL, out := tmp_path / "out", RATERS)
    tasks = json.loads((out / "tasks-003.json").read_text())

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


def test_a_batch_has_a_row_for_each_rater_with_the_pairs_of_the_sheet_and_a_link(exported, tmp_path):
    study = exported(question="Which ${one}?", consent="For ${money} & more?")
    convert(study.public.parent, "csv", URL, out := tmp_path / "out", RATERS)
    batch = rows(out / "batch.csv")
    assert [row["sheet"] for row in batch] == [str(number) for number in range(RATERS)]
    for number, row in enumerate(batch):
        (own,) = json.loads(row["told"])["lists"]
        assert own == sheet(study.page["lists"], number)
    assert [row["url"] for row in rows(out / "links.csv")] == [f"{URL}/index.html?sheet={n}" for n in range(RATERS)]
    layout = (out / "task.html").read_text()
    assert re.findall(r"\$\{.*?\}", layout) == ["${told}"]  # what the platform replaces


def test_a_task_too_long_for_its_platform_is_refused(exported, tmp_path, monkeypatch):
    study = exported()
    monkeypatch.setattr("ldm.study.formats.MOST_BYTES", 30_000)
    with pytest.raises(
        ValueError, match=r"a task of \d\d,\d{3} bytes, of which Mechanical Turk takes 30,000; lower trials"
    ):
        convert(study.public.parent, "csv", URL, tmp_path / "out", RATERS)


@contextmanager
def task_of_mechanical_turk(study: Exported, out: Path, number: int, assignment: str) -> Iterator[Page]:
    """A row's task as the platform shows it: its columns put into the layout, in a page of another host."""
    row, layout = rows(out / "batch.csv")[number], (out / "task.html").read_text()
    html = layout.replace("${told}", row["told"])
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(20_000)
        page.route("https://hits.test/**", lambda route: route.fulfill(body=html, content_type="text/html"))
        page.route(
            f"{URL}/**", lambda route: route.fulfill(path=study.public / route.request.url.removeprefix(f"{URL}/"))
        )
        page.route("https://www.mturk.com/**", lambda route: route.fulfill(body="taken"))
        page.goto(f"https://hits.test/?assignmentId={assignment}")
        yield page


def test_a_task_hides_its_pictures_after_their_time_and_hands_in_what_scoring_reads(exported, tmp_path):
    study = exported(trials=1, catch=1, practice=1, seconds=0.2)
    convert(study.public.parent, "csv", URL, out := tmp_path / "out", RATERS)
    with task_of_mechanical_turk(study, out, 7, "A1B2") as page:
        page.get_by_role("button", name="I agree").click()
        page.get_by_role("button", name="Try it").click()
        page.wait_for_selector(".asking")
        page.keyboard.press("ArrowLeft")
        page.get_by_role("button", name="Begin").click()
        for trial in sheet(study.lists, 7):
            page.wait_for_selector(".asking")
            assert page.locator(".frames").get_attribute("data-trial") == trial
            assert page.locator(".frame img").count() == 0
            page.keyboard.press("ArrowLeft" if preferred(study, trial) == "left" else "ArrowRight")
            page.wait_for_selector(".asking", state="detached")
        with page.expect_request("https://www.mturk.com/mturk/externalSubmit") as sent:
            page.get_by_role("button", name="Hand in").click()
        fields = dict(parse_qsl(sent.value.post_data))
    assert fields["assignmentId"] == "A1B2"
    result = {"WorkerId": "W", "AssignmentStatus": "Submitted", "Answer.answers": fields["answers"]}
    (tmp_path / "results.csv").write_bytes(table([result]))
    told = score(study.key, [tmp_path / "results.csv"])
    assert (told.counted, told.first_over_second.share, told.first_over_original.share) == (1, 1, 0)
    assert all(190 <= answer["shown_ms"] < 1000 for answer in json.loads(fields["answers"])["trials"])


def test_a_task_that_is_only_looked_over_shows_no_pictures(exported, tmp_path):
    study = exported(trials=1, catch=0)
    convert(study.public.parent, "csv", URL, out := tmp_path / "out", RATERS)
    with task_of_mechanical_turk(study, out, 0, "ASSIGNMENT_ID_NOT_AVAILABLE") as page:
        expect(page.get_by_text("Accept this task to take part")).to_be_visible()
        expect(page.get_by_role("button", name="I agree")).to_be_hidden()


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

    def result(worker: str, number: int, status: str = "Approved", **changes) -> dict[str, str]:
        trials = [
            {"trial": trial, "choice": preferred(study, trial), "response_ms": 4000, "shown_ms": 400, "looks": 1}
            for trial in sheet(study.lists, number)
        ]
        answers = {"study": study.page["study"], "rater": "0" * 16, "trials": trials} | changes
        return {"WorkerId": worker, "AssignmentStatus": status, "Answer.answers": json.dumps(answers)}

    file, again = tmp_path / "results.csv", tmp_path / "again.csv"
    file.write_bytes(table([result("A1", 0), result("B2", 7, "Submitted"), result("C3", 1, "Rejected")]))
    told = score(study.key, [file])
    assert (told.counted, told.first_over_second.share) == (2, 1)
    assert {rater.seconds for rater in told.raters} == {4}
    assert all("A1" not in rater.name for rater in told.raters)
    again.write_bytes(file.read_bytes())
    assert score(study.key, [file, again]).counted == 2
    file.write_bytes(table([result("A1", 0), result("A1", 1)]))
    with pytest.raises(ValueError, match="is of another rater's list"):
        score(study.key, [file])
    for text in ("", "no JSON", "[1]", "[" * 10_000):
        file.write_bytes(table([result("A1", 0) | {"Answer.answers": text}]))
        with pytest.raises(ValueError, match="is not what the page writes") as caught:
            score(study.key, [file])
        assert "A1" not in str(caught.value)
    for changes in ({"study": 3}, {"more": 1}, {"trials": [{}]}):
        file.write_bytes(table([result("A1", 0, **changes)]))
        with pytest.raises(ValueError, match=r"results\.csv: answers"):
            score(study.key, [file])
    file.write_bytes(table([{"WorkerId": "A1"}]))
    with pytest.raises(ValueError, match="no column AssignmentStatus"):
        score(study.key, [file])


def test_jspsych_has_every_pair_looked_at_for_its_time_and_answered(exported, tmp_path):
    study = exported(question="Which </script> is <b>better</b>?", seconds=3.0)
    convert(study.public.parent, "jspsych", URL, out := tmp_path / "out", RATERS)
    timeline = json.loads((out / "timeline.json").read_text())
    for names, steps in zip(study.lists, timeline["lists"], strict=True):
        looks = [step for step in steps if step["data"]["part"] == "look"]
        choices = [step for step in steps if step["data"]["part"] == "choose"]
        assert [step["data"]["trial"] for step in looks] == [step["data"]["trial"] for step in choices] == names
        assert {step["trial_duration"] for step in looks} == {3000}
        assert all(step["stimulus"].count("<img") == 3 and "<b>" not in step["stimulus"] for step in looks)
        assert {step["type"] for step in steps} == {"html-keyboard-response"}
    page = (out / "index.html").read_text()
    inside = page.split('id="timeline">')[1].split("</script>")[0]
    assert json.loads(inside) == timeline


JSPSYCH = """
var jsPsychPreload, jsPsychHtmlKeyboardResponse;
const initJsPsych = () => ({ run: (steps) => { window.steps = steps.map((step) => step.data).filter(Boolean); } });
"""
"""Of jsPsych no more than what takes the timeline; the real one, 8.3, was tried by hand."""


def test_jspsych_runs_practice_and_then_a_sheet(exported, tmp_path):
    study = exported(trials=4, practice=2)
    convert(study.public.parent, "jspsych", URL, out := tmp_path / "out", RATERS)
    (out / "jspsych").mkdir()
    (out / "jspsych/jspsych.js").write_text(JSPSYCH)
    with chromium() as browser:
        page = browser.new_page()
        for link in rows(out / "links.csv"):
            page.goto((out / link["url"].split("?")[0]).as_uri() + "?" + link["url"].split("?")[1])
            steps = page.evaluate("window.steps")
            assert [step["part"] for step in steps] == ["look", "choose"] * (len(steps) // 2)
            assert [step["trial"] for step in steps[::2]] == [step["trial"] for step in steps[1::2]]
            assert [step["kind"] for step in steps] == ["practice"] * 4 + ["trial"] * (len(steps) - 4)
            assert [step["trial"] for step in steps[4::2]] == sheet(study.lists, int(link["sheet"]))


def test_what_cannot_be_converted_is_refused_in_one_line(exported, tmp_path):
    study = exported()
    for folder, to, url, out, message in (
        (study.public.parent, "excel", URL, "a", "--to excel: one of label-studio, csv, jspsych"),
        (study.public.parent, "csv", "javascript:alert(1)", "a", "the address of the public folder"),
        (study.public.parent, "csv", f"{URL}?x=1", "a", "the address of the public folder"),
        (tmp_path / "nowhere", "csv", URL, "a", "not a page of a study"),
        (study.public.parent, "csv", URL, study.public, "not an empty folder"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            convert(folder, to, url, tmp_path / out, RATERS)
        assert "\n" not in str(caught.value)
