"""The report as a stage: what makes it stale and what does not, the page about this machine, plots for DVC."""

import json

import pytest

from flows.record import outside
from ldm.config import load
from ldm.files import read_json, write_json
from tests.flows.copies import copied


@pytest.fixture
def project(rebuilt, tmp_path):
    return copied(rebuilt, tmp_path / "project")


def stale(project) -> set[str]:
    return set(json.loads(project.run("dvc", "status", "--json").stdout))


def test_answers_that_come_in_make_nothing_stale_and_scored_ones_the_report_alone(project):
    (folder,) = [path for path in (project.folder / "studies").iterdir() if path.is_dir()]
    for name in ("answers.db", "answers.db-wal", "answers.db-shm", "answers/one.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    assert stale(project) == set()
    assert project.run("git", "status", "--porcelain").stdout == ""
    write_json(folder / "preferences.json", {"study": "0" * 16})
    assert stale(project) == {"report"}
    assert "preferences.json" in project.run("git", "status", "--porcelain", "--untracked-files=all").stdout
    project.run("dvc", "repro", "--single-item", "report")
    assert "of another export of this study" in (project.folder / "report/index.html").read_text()


def test_the_page_has_the_hashes_of_raw_data_and_weights_that_rows_of_params_read(project, monkeypatch):
    assert "No raw data and no weights" in (project.folder / "report/run.html").read_text()
    monkeypatch.chdir(project.folder)
    lock = load("dvc.lock")
    deps = lock["stages"]["prepare@scenes"]["deps"]
    assert deps[1]["path"] == "data/raw/none"
    deps += [{"path": "data/raw/photos", "md5": "ab12.dir"}, {"path": "ldm/sources", "md5": "cd34.dir"}]
    lock["stages"]["reference@scenes-test"]["deps"] += [{"path": "data/weights/inception", "md5": "ef56.dir"}]
    lock["stages"]["prepare@gone"] = {"deps": [{"path": "data/raw/gone", "md5": "0123.dir"}]}
    write_json(project.folder / "dvc.lock", lock)
    assert outside() == {"data/raw/photos": "ab12.dir", "data/weights/inception": "ef56.dir"}
    project.stage("report", "--plain")
    page = (project.folder / "report/run.html").read_text()
    assert "<td>data/raw/photos</td><td>ab12.dir</td>" in page
    (project.folder / "dvc.lock").unlink()
    assert outside() is None


def test_the_page_about_this_machine_names_every_stage_with_its_time_and_is_in_no_hash(project):
    page = (project.folder / "report/run.html").read_text()
    (*_, made) = sorted((project.folder / ".logs").rglob("*.json"))
    log = read_json(made)
    assert f"<td>{log['stage']}</td><td>{log['name']}</td>" in page
    assert f"<td>{log['peak_megabytes']} MB</td>" in page
    assert read_json(project.folder / "environment.json")["python"] in page
    assert "run.html" not in read_json(project.folder / "report/manifest.json")
    (project.folder / "report/run.html").write_text("another machine's")
    assert stale(project) == set()


def test_dvc_plots_shows_the_curves(project, tmp_path):
    project.run("dvc", "plots", "show", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots/index.html").read_text()
    shown = {path.name for path in (tmp_path / "plots").rglob("*.png")}
    assert any("text-f4-loss.png" in name for name in shown), shown
    assert "text-f4-loss.png" in page
