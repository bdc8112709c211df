"""The whole graph as one Prefect run: real DVC, real stages, a real server, what its API says and its pages show."""

import base64
import io
import logging
import os
import platform
import re
import signal
import sys
import time
from collections.abc import Iterator

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from flows.server import LOCAL_SERVER, answers
from tests.browser import chromium
from tests.flows.conftest import Checkout, Server, Watched
from tests.flows.copies import copied

PIPELINE = sys.executable, "-u", "-m", "flows.pipeline"
KL = "train_autoencoder@kl-f4"
STUDY = "export_study@super-resolution"


@pytest.fixture
def project(watched, tmp_path) -> Checkout:
    """All made and up to date, to change something in."""
    return copied(watched.project, tmp_path / "project")


def told(text: str) -> dict[str, str]:
    """What the pipeline said of each stage: nothing of those that it ran."""
    return dict(re.findall(r"^\[\d+/\d+\] ([^\s:]+)(?:: (.*))?$", text, flags=re.MULTILINE))


def lock(project: Checkout) -> str:
    return (project.folder / "dvc.lock").read_text()


def states(runs: dict) -> dict[str, tuple[str, str]]:
    return {name: (run["state_name"], run["state"]["message"]) for name, run in runs.items()}


def test_two_cold_rebuilds_one_of_them_through_prefect_give_the_same_lock(watched, rebuilt):
    assert lock(watched.project) == lock(rebuilt)


def test_the_stages_are_the_children_of_one_run_and_named_after_stage_and_model(watched, server):
    run, children = watched.run, server.children(watched.run)
    listed = watched.project.run("dvc", "stage", "list", "--name-only").stdout.split()
    assert set(children) == {address.replace("@", " ") for address in listed}
    assert {state for state, _ in states(children).values()} == {"Completed"}
    assert (run["name"], run["state_name"]) == ("pipeline", "Completed")
    assert run["state"]["message"] == f"{len(listed)} of {len(listed)} stages"
    entries = server.entries(run)
    assert {child["parent_task_run_id"] for child in children.values()} == {entry["id"] for entry in entries.values()}
    assert set(entries) == set(listed)


def test_the_timeline_shows_what_each_stage_needs(watched, server):
    entries = server.entries(watched.run)
    named = {entry["id"]: name for name, entry in entries.items()}
    needs = {name: {named[need["id"]] for need in entry["task_inputs"]["after"]} for name, entry in entries.items()}
    assert needs[KL] == {"prepare@scenes"}
    assert needs["sample@sr-f1"] == {
        "cache_latents@scenes-pixels", "train_autoencoder@pixels", "train_diffusion@sr-f1"
    }  # fmt: skip


def test_every_stage_shows_how_far_it_is(watched, server):
    for name, child in server.children(watched.run).items():
        shown = {key: artifact for key, artifact in server.artifacts(child).items() if key.endswith("-progress")}
        assert [(artifact["type"], artifact["data"]) for artifact in shown.values()] == [("progress", 100.0)], name


@pytest.mark.parametrize(
    ("name", "picture"),
    [("train_autoencoder kl-f4", "reconstructions")]
    + [(f"train_diffusion {model}", "samples") for model in ("text-f4", "sr-f4", "sr-f1")],
)
def test_a_training_shows_pace_loss_and_its_latest_pictures(watched, server, name, picture):
    key = re.sub("[ _]", "-", name)
    shown = server.artifacts(server.children(watched.run)[name])
    figures = shown[f"{key}-figures"]["data"]
    assert re.search(r"\| steps \| 20 of 20 \|\n\| throughput \| \S+ steps/s \|\n\| time left \| 0:00 \|", figures)
    assert re.search(r"\| loss \| \d", figures)
    when, _, url = shown[f"{key}-{picture}"]["data"].partition("\n\n")
    assert when == "after 20 of 20 steps"
    png = base64.b64decode(url.removeprefix(f"![{picture}](data:image/png;base64,").removesuffix(")"))
    assert Image.open(io.BytesIO(png)).width >= 240


def test_the_page_of_a_pipeline_tells_of_each_stage_where_it_ran_how_far_and_how_fast(watched, server):
    shown = server.artifacts(watched.run)
    rows = [row.strip("| ").split(" | ") for row in shown["pipeline-stages"]["data"].splitlines()[2:]]
    assert len(rows) == len(server.children(watched.run))
    assert {(row[1], row[2]) for row in rows} == {("Completed", f"{platform.node()} cpu")}
    (training,) = [row for row in rows if "[train_diffusion@sr-f1]" in row[0]]
    assert training[3] == "20 of 20 steps"
    assert re.fullmatch(r"[\d.]+ steps/s", training[4])
    assert float(training[6]) > 0
    assert re.match(r"\*\*\w+@[\w-]+\*\*\n\nafter \d+ of \d+ \w+\n\n!\[", shown["pipeline-pictures"]["data"])


def test_tags_and_log_of_a_stage_say_where_it_runs_and_how_far_it_is(watched, server):
    training = server.children(watched.run)["train_diffusion sr-f1"]
    assert set(training["tags"]) == {platform.node(), "cpu"}
    assert set(watched.run["tags"]) == {platform.node()}
    (_, first), *_, (_, last) = server.log(training)
    assert re.fullmatch(rf"runs on {platform.node()}, cpu: process \d+ in {watched.project.folder}", first)
    assert last.startswith("train_diffusion sr-f1  20/20 steps")


def test_what_is_up_to_date_is_passed_over_and_shown_so(project, server):
    before = lock(project)
    done = project.stage("pipeline", **server.environment)
    assert set(told(done.stdout).values()) == {"up to date"}
    run = server.run(done.stdout)
    assert set(states(server.entries(run)).values()) == {("Cached", "up to date")}
    assert not server.children(run)
    assert lock(project) == before


def test_targets_bring_what_they_need_and_the_plan_is_what_then_runs(project):
    project.edit("objects: 1, seed: 1", "objects: 1, seed: 2")
    said = project.stage("pipeline", "--dry", "reference", "train_autoencoder@pixels").stdout
    plan = told(said)
    assert plan == {
        "prepare@scenes": "would run: 120 drawn pictures at 16 pixels",
        "reference@scenes-test": "would run: test pictures in batches of 8",
        "train_autoencoder@pixels": "would run: nothing to train",
    }
    measure = "python -m flows.plan reference train_autoencoder@pixels"
    assert said.endswith(f"hours, memory and disk, from a short measurement: {measure}\n")
    assert "prepare@scenes" in project.run("dvc", "status", "prepare@scenes").stdout  # so far nothing ran
    ran = told(project.stage("pipeline", "reference", "train_autoencoder@pixels").stdout)
    assert ran == dict.fromkeys(plan, "")
    assert "up to date" in project.run("dvc", "status", *plan).stdout


def test_values_set_on_the_command_line_are_what_runs(project):
    done = project.stage("pipeline", "prepare", "-S", "datasets.scenes.source.count=60")
    assert "params.yaml, line 8: datasets.scenes.source.count: 120 -> 60" in done.stdout
    assert told(done.stdout) == {"prepare@scenes": ""}
    assert "count: 60" in lock(project)
    before = project.run("git", "diff").stdout
    refused = project.stage("pipeline", "-S", "datasets.scenes.sise=8", ok=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "pipeline: params.yaml: datasets.scenes: no entry 'sise', did you mean 'size'?\n"
    assert project.run("git", "diff").stdout == before


def test_a_failed_stage_stops_only_what_needs_it(project, server):
    project.edit("practice: 2 ", "practise: 2 ")
    done = project.stage("pipeline", ok=False, **server.environment)
    assert done.returncode == 1
    why = "params.yaml: studies.super-resolution: unknown key 'practise', did you mean 'practice'?"
    last = f"{STUDY}: {why}; go on: python -m flows.pipeline"
    assert done.stderr.splitlines()[-1] == f"pipeline: {STUDY}: {why}"
    assert "unknown key 'practise', did you mean 'practice'?" in done.stderr
    assert "Traceback" not in done.stderr
    said = told(done.stdout)
    assert (said.pop(STUDY), said.pop("report")) == ("", f"not run, for it needs {STUDY}")
    assert set(said.values()) == {"up to date"}
    run = server.run(done.stdout)
    assert states({"": run}) == {"": ("Failed", last)}
    entries = states(server.entries(run))
    assert entries["report"] == ("NotRun", f"needs {STUDY}, which failed")
    assert entries[STUDY] == ("Failed", f"{why}; go on: dvc repro {STUDY}")
    shown = server.artifacts(run)
    assert why in shown["pipeline-failure"]["data"]
    assert shown["pipeline-failure"]["data"].endswith("```\npython -m flows.pipeline\n```")
    assert f"{STUDY}](" in shown["pipeline-stages"]["data"]
    assert f"| Failed: {why} | {platform.node()} cpu |" in shown["pipeline-stages"]["data"]
    assert f"| report | NotRun: needs {STUDY}, which failed |" in shown["pipeline-stages"]["data"]
    log = server.log(server.children(run)[STUDY.replace("@", " ")])
    assert log[-2:] == [(logging.ERROR, why), (logging.ERROR, f"to go on: dvc repro {STUDY}")]


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("params.yaml", "samples:\n", "samples: [\n", "params.yaml, line "),
        ("params.yaml", "    latents: scenes-pixels\n", "", "Could not find 'item.latents'"),
        ("dvc.yaml", "stages:\n", "stages: [\n", "dvc.yaml, line "),
    ],
)
def test_files_that_make_no_graph_are_refused_in_one_line(project, file, old, new, says):
    project.edit(old, new, file)
    done = project.stage("pipeline", ok=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert says in done.stderr


def test_an_unknown_target_is_refused_with_the_nearest(project):
    done = project.stage("pipeline", "evalute", ok=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pipeline evalute: dvc.yaml: no stage 'evalute', did you mean 'evaluate'?\n"


def begun(project: Checkout, *, within: float = 90) -> None:
    """Return when a training has saved its first state."""
    until = time.monotonic() + within
    while not list(project.folder.glob(".resume/train_autoencoder/kl-f4/*/step-*.json")):
        assert time.monotonic() < until, "no state was saved"
        time.sleep(0.1)


def test_a_pipeline_shuts_out_another_and_stops_where_it_can_go_on(project, server):
    command = *PIPELINE, KL, "-S", "autoencoders.kl-f4.train.steps=100000"
    running = project.start(*command, **server.environment)
    begun(project)
    second = project.stage("pipeline", KL, ok=False)
    assert second.returncode == 1
    assert re.fullmatch(
        rf"pipeline {KL}: another DVC command is at work here \(PID {running.pid}\): .*; wait for it, then repeat "
        r"this one\n", second.stderr
    )  # fmt: skip
    running.terminate()
    said, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors.splitlines()[-1] == (
        f"pipeline {KL}: stopped; to go on from the last saved state: python -m flows.pipeline {KL}"
    )
    run = server.run(said)
    assert (run["state_name"], server.children(run)["train_autoencoder kl-f4"]["state_name"]) == ("Cancelled",) * 2
    begun(project, within=0)  # what was saved is still there


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_stage_that_is_killed_is_shown_as_crashed_with_the_command_that_goes_on(project, server, shell):
    command = *PIPELINE, KL, "-S", "autoencoders.kl-f4.train.steps=100000"
    running = project.start(*command, **server.environment, SHELL=shell)  # one waits for the stage, one becomes it
    begun(project)
    stage = int((project.folder / ".resume/train_autoencoder/kl-f4.lock").read_text())
    os.kill(stage, signal.SIGKILL)
    said, errors = running.communicate(timeout=60)
    why = "failed to run: python -m flows.train_autoencoder kl-f4, killed by SIGKILL"
    assert running.returncode == 1
    assert errors.splitlines()[-1] == f"pipeline {KL}: {KL}: {why}"
    children = states(server.children(server.run(said)))
    assert children["train_autoencoder kl-f4"] == ("Crashed", f"{why}; go on: dvc repro {KL}")


def test_a_server_that_goes_away_stops_nothing(project):
    before = lock(project)
    server = Server(project)
    target = "train_autoencoder@pixels"
    running = project.start(*PIPELINE, "--force", target, **server.environment)
    lines = [running.stdout.readline() for _ in range(2)]
    assert "[1/2] prepare@scenes" in lines[-1]
    server.end(signal.SIGKILL)
    said, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    assert told("".join(lines) + said) == {"prepare@scenes": "", target: ""}
    assert f"{target}: not shown in Prefect: " in errors
    assert lock(project) == before


def test_without_a_server_there_is_one_for_all_stages(project):
    done = project.stage("pipeline", "--force", "train_autoencoder@pixels", FLOWS_PLAIN="")
    assert told(done.stdout) == {"prepare@scenes": "", "train_autoencoder@pixels": ""}
    (pages,) = re.findall(r"Prefect's page of this run: (http://[^/]+)/runs/", done.stdout)
    assert "without Prefect" not in done.stderr
    assert not answers(f"{pages}/api") or f"{pages}/api" == LOCAL_SERVER  # it ended with the pipeline


def test_a_run_started_in_prefects_pages_makes_what_dvc_exp_run_makes(project, server, tmp_path):
    """An edit that a cheap stage is made anew for, and one that is refused in the pages, too."""
    there = copied(project, tmp_path / "experiment")
    there.run("dvc", "exp", "run", "-S", "datasets.scenes.test=0.3", "prepare@scenes")
    assert lock(there) != lock(project)
    serving = project.start(*PIPELINE, "--serve", **server.environment)
    try:
        assert "/deployments (pipeline/here), run in " in serving.stdout.readline()
        wrong = server.start("pipeline/here", targets=["prepare@scenes"], set=["datasets.scenes.tost=0.3"])
        assert wrong["state_name"] == "Failed"
        assert "no entry 'tost', did you mean 'test'?; go on: " in wrong["state"]["message"]
        before = (project.folder / "params.yaml").read_text()
        elsewhere = server.start("pipeline/here", targets=["prepare@scenes"], set=["run.threads=4"], workers=True)
        assert elsewhere["state"]["message"] == (
            "workers run what is committed: edit params.yaml, commit and push it, and leave out `set`; "
            "go on: python -m flows.pipeline --workers prepare@scenes"
        )
        assert (project.folder / "params.yaml").read_text() == before
        run = server.start("pipeline/here", targets=["prepare@scenes"], set=["datasets.scenes.test=0.3"])
        assert (run["state_name"], run["tags"]) == ("Completed", [platform.node()])
    finally:
        serving.terminate()
        serving.communicate(timeout=30)
    assert lock(project) == lock(there)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, server: Server, watched: Watched) -> Iterator[Page]:
    """The page of the pipeline's run; the browser reaches this machine only."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(30_000)
    page.route(lambda url: not url.startswith(server.pages), lambda route: route.abort())
    page.goto(f"{server.pages}/runs/flow-run/{watched.run['id']}")
    yield page
    page.close()


def click(page: Page, text: str) -> None:
    page.get_by_text(text, exact=True).first.click()


def open_artifact(page: Page, training: str, name: str) -> None:
    """From the pipeline's run to one that it started, and to what that shows under `name`."""
    click(page, "Subflow Runs")
    page.get_by_placeholder("Search by run name").fill(training)
    click(page, training)
    expect(page.get_by_text("Parent Run")).to_be_visible()
    click(page, "Artifacts")
    click(page, name)


def test_the_run_of_the_pipeline_shows_its_stages_by_name(page, server, watched):
    names = set(server.children(watched.run))
    click(page, "Subflow Runs")
    expect(page.get_by_text(f"{len(names)} Flow runs")).to_be_visible()
    for model in {name.split()[-1] for name in names}:  # a page holds ten
        page.get_by_placeholder("Search by run name").fill(model)
        for name in names:
            if name.split()[-1] == model:
                expect(page.get_by_text(name, exact=True).last).to_be_visible()


def test_a_training_shows_its_progress_pace_and_loss(page):
    open_artifact(page, "train_diffusion text-f4", "train-diffusion-text-f4-figures")
    for figure in ("20 of 20", "throughput", "steps/s", "time left", "loss"):
        expect(page.get_by_role("cell", name=figure).first).to_be_visible()
    chart = page.get_by_role("img", name="scalars")
    expect(chart).to_be_visible()
    assert chart.evaluate("image => image.naturalWidth") == 640


def test_a_training_shows_how_far_it_is(page):
    open_artifact(page, "train_diffusion text-f4", "train-diffusion-text-f4-progress")
    expect(page.get_by_text("100%")).to_be_visible()


@pytest.mark.parametrize(
    ("training", "picture"), [("train_autoencoder kl-f4", "reconstructions"), ("train_diffusion sr-f1", "samples")]
)
def test_a_training_shows_its_latest_pictures(page, training, picture):
    open_artifact(page, training, f"{training.replace('_', '-').replace(' ', '-')}-{picture}")
    expect(page.get_by_text("after 20 of 20 steps")).to_be_visible()
    shown = page.get_by_role("img", name=picture)
    expect(shown).to_be_visible()
    assert shown.evaluate("image => image.complete && image.naturalWidth") >= 240
