"""A Dask scheduler and two workers on this machine make the shards of a stage, and one of them is killed at it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ldm.files import MANIFEST, read_json
from tests.flows.conftest import Checkout
from tests.flows.copies import copied

pytest.importorskip("distributed", reason="needs Dask: pip install -c constraints.txt -e '.[cluster]'")
PATIENCE = 300.0
STAGES = [
    ("prepare", "scenes", "data/prepared/scenes", ("count: 120", "count: 1200")),
    ("cache_latents", "scenes-pixels", "data/latents/scenes-pixels", ("batch: 32, seed: 3}", "batch: 4, seed: 3}")),
    ("sample", "text-f4", "samples/text-f4", ("split: test, count: 16", "split: test, count: 96")),
]
"""A stage with `shards`, a row of it, its output, and what makes enough of them in the smoke preset."""


class Cluster:
    """A scheduler and its workers, in the folder of a project."""

    def __init__(self, project: Checkout, logs: Path) -> None:
        self._project, self._logs = project, logs
        self._scheduler = logs / "scheduler.json"
        self._processes: list[subprocess.Popen[bytes]] = []
        logs.mkdir()
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0")
        until(self._scheduler.exists, "the scheduler is there")
        self.workers = [self._start("worker", "--nthreads", "1") for _ in range(2)]
        until(lambda: self._log(0).count("Register worker") == 2, "both workers are there")

    @property
    def address(self) -> str:
        return read_json(self._scheduler)["address"]

    def _start(self, part: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{part}", "--scheduler-file", self._scheduler]
        with self._path(len(self._processes)).open("wb") as log:
            process = subprocess.Popen(
                [*command, *options, "--no-dashboard"], cwd=self._project.folder, env=self._project.environment,
                stdout=log, stderr=log, process_group=0,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def _path(self, number: int) -> Path:
        return self._logs / f"{number}.log"

    def _log(self, number: int) -> str:
        return self._path(number).read_text()

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """With all that it has started, and no time to say goodbye."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def end(self) -> None:
        for process in reversed(self._processes):
            if process.returncode is None:
                self.kill(process)


def until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.002)


@pytest.fixture
def project(rebuilt, tmp_path) -> Checkout:
    return copied(rebuilt, tmp_path / "project")


@pytest.fixture
def cluster(project, tmp_path) -> Iterator[Cluster]:
    cluster = Cluster(project, tmp_path / "logs")
    yield cluster
    cluster.end()


@pytest.mark.parametrize(("stage", "name", "out", "more"), STAGES, ids=[stage for stage, *_ in STAGES])
def test_two_workers_one_of_them_killed_make_the_bytes_of_one_process(
    stage, name, out, more, project, cluster, tmp_path
):
    project.edit(*more)
    state, manifest = project.folder / ".resume" / stage / name, project.folder / out / MANIFEST
    project.stage(stage, name)
    alone = manifest.read_bytes()
    manifest.unlink()

    def shards() -> int:
        return sum(1 for path in state.glob("*/*") if not path.name.startswith("."))

    asked = project.start(sys.executable, "-m", f"flows.{stage}", name, FLOWS_DASK=cluster.address)
    try:
        until(lambda: shards() > 0 or asked.poll() is not None, "a shard is made")
        cluster.kill(cluster.workers[0])
        made = shards()
        said, troubles = asked.communicate(timeout=PATIENCE)
    finally:
        asked.kill()
    assert asked.returncode == 0, said + troubles
    assert " shards" in said + troubles
    assert 0 < made < 10, "it was killed too late"
    assert manifest.read_bytes() == alone
