"""A server, two workers in clones and homes of their own, a folder as DVC's remote: machines of a cluster, on one."""

import copy
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.flows.conftest import Checkout, Server
from tests.flows.copies import copied

pytestmark = pytest.mark.torture
PATIENCE = 600.0
STUDY = "export_study@super-resolution"


class Machine:
    """A clone with a home of its own, and the worker that runs in it."""

    def __init__(self, project: Checkout, server: Server, folder: Path) -> None:
        self.clone, home = folder / "clone", folder / "home"
        home.mkdir(parents=True)
        subprocess.run(["git", "clone", "--quiet", project.folder, self.clone], check=True)
        environment = project.environment | server.environment
        environment |= {
            "HOME": str(home),
            "PREFECT_HOME": str(home / ".prefect"),
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "2",
        }
        self._log = (folder / "log").open("w")
        self.process = psutil.Popen(
            [sys.executable, "-m", "flows.worker"], cwd=self.clone, env=environment,
            stdout=self._log, stderr=subprocess.STDOUT,
        )  # fmt: skip

    @property
    def said(self) -> str:
        return Path(self._log.name).read_text()

    def trains(self, model: str) -> bool:
        """Whether `model` is being trained here and has saved a state."""
        return any((self.clone / ".resume/train_diffusion" / model).rglob("step-*.pt"))

    def kill(self) -> None:
        """As when its power fails: the worker and all that it started, with no time to say goodbye."""
        everything = [self.process, *self.process.children(recursive=True)]
        for process in everything:
            process.suspend()
        for process in everything:
            process.kill()
        self.process.wait()

    def rest(self, paused: bool) -> None:
        """Let the worker, not what it started, miss its heartbeats, or beat again."""
        (self.process.suspend if paused else self.process.resume)()

    def close(self) -> None:
        if self.process.is_running():
            self.kill()
        self._log.close()


def until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def quick(checkout) -> Iterator[Server]:
    """A server that looks after its workers every two seconds, not every 15."""
    server = Server(checkout("quick"), PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS="2")
    yield server
    server.end()


@pytest.fixture
def made(rebuilt, tmp_path) -> Checkout:
    """All made and up to date, its data in a remote."""
    project = copied(rebuilt, tmp_path / "project")
    shutil.rmtree(project.folder / ".resume")  # where a stage that runs leaves a lock
    project.run("dvc", "remote", "add", "--default", "shared", str(tmp_path / "remote"))
    project.run("dvc", "push")
    return project


@pytest.fixture
def project(made) -> Checkout:
    """Two models are asked for that are not there."""
    project = made
    project.edit(
        "steps: 20, batch: 8, lr: 2.0e-3, warmup: 5, loss: l2, ema: 0.9, seed: 4",
        "steps: 250, batch: 8, lr: 2.0e-3, warmup: 5, loss: l2, ema: 0.9, seed: 14",
    )
    project.edit(
        "steps: 20, batch: 8, lr: 2.0e-3, warmup: 5, loss: l2, ema: 0.9, seed: 5",
        "steps: 250, batch: 8, lr: 2.0e-3, warmup: 5, loss: l2, ema: 0.9, seed: 15",
    )
    project.commit("Two other models")
    return project


def test_two_workers_train_two_models_one_of_them_is_killed_and_the_lock_is_that_of_a_local_run(
    project, quick, tmp_path
):
    project.stage("deploy", **quick.environment)
    local = copy.copy(project)
    local.folder = shutil.copytree(project.folder, tmp_path / "local", symlinks=True)
    machines = [Machine(project, quick, tmp_path / name) for name in ("first", "second")]
    pipeline = None
    try:
        until(lambda: all("started" in machine.said for machine in machines), "both workers are there")
        pipeline = project.start(
            sys.executable, "-m", "flows.pipeline", "--workers", "train_diffusion@text-f4", "train_diffusion@sr-f4",
            **quick.environment,
        )  # fmt: skip
        both = ("text-f4", "sr-f4")
        until(lambda: all(any(m.trains(model) for m in machines) for model in both), "both models train")
        killed, left = machines if machines[0].trains("text-f4") else machines[::-1]
        assert left.trains("sr-f4")
        killed.kill()
        said, troubles = pipeline.communicate(timeout=PATIENCE)
        assert pipeline.returncode == 0, said + troubles + left.said
        assert "is gone; handed out again" in troubles
        assert said.count("made by a worker") == 2
        assert not (project.folder / ".resume/train_diffusion").exists()
    finally:
        if pipeline:
            pipeline.kill()
        for machine in machines:
            machine.close()
    local.run("dvc", "repro", "train_diffusion@text-f4", "train_diffusion@sr-f4")
    assert (project.folder / "dvc.lock").read_text() == (local.folder / "dvc.lock").read_text()


def test_a_stage_that_fails_on_a_worker_says_why_and_the_pipeline_waits_while_no_worker_is_heard(made, quick, tmp_path):
    made.edit("practice: 2 ", "practise: 2 ")
    made.commit("A misspelled key")
    made.stage("deploy", **quick.environment)
    machine, pipeline = Machine(made, quick, tmp_path / "only"), None
    try:
        until(lambda: "started" in machine.said, "the worker is there")
        command = [sys.executable, "-u", "-m", "flows.pipeline", "--workers", STUDY]
        pipeline = made.start(*command, **quick.environment)
        told = "".join(iter(pipeline.stdout.readline, f"{STUDY}: handed out\n"))
        machine.rest(paused=True)
        assert pipeline.stderr.readline() == "no worker is online; waiting for one\n"
        machine.rest(paused=False)
        _, troubles = pipeline.communicate(timeout=PATIENCE)
    finally:
        if pipeline:
            pipeline.kill()
        machine.close()
    why = "params.yaml: studies.super-resolution: unknown key 'practise', did you mean 'practice'?"
    assert pipeline.returncode == 1
    assert troubles.splitlines()[-1] == f"pipeline {STUDY}: {STUDY}: {why}"
    run = quick.run(told)
    assert run["state"]["message"] == f"{STUDY}: {why}; go on: python -m flows.pipeline --workers {STUDY}"
    elsewhere = quick.children(run)[f"{STUDY} on a worker"]
    assert elsewhere["state"]["message"] == f"{why}; go on: python -m flows.remote {STUDY}"
    (table,) = [shown["data"] for key, shown in quick.artifacts(run).items() if key.endswith("-stages")]
    assert f"| Failed: {why} | {platform.node()} cpu |" in table
    assert "| prepare@scenes | Cached |" in table
