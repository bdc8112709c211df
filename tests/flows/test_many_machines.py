"""A server, two workers in clones and homes of their own, a folder as DVC's remote: machines of a cluster, on one."""

import copy
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
def project(rebuilt, tmp_path) -> Checkout:
    """All made and up to date, its data in a remote; then two models are asked for that are not there."""
    project = copied(rebuilt, tmp_path / "project")
    shutil.rmtree(project.folder / ".resume")  # where a stage that runs leaves a lock
    project.run("dvc", "remote", "add", "--default", "shared", str(tmp_path / "remote"))
    project.run("dvc", "push")
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
