"""Whole checkouts with the smoke preset, in which the real `dvc` and the real stages run as processes of their own."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
BUILT = ("dvc.lock", "environment.json", "metrics/*.json", "metrics/autoencoders/*.json")
"""What git tracks and a run writes: a new checkout starts without."""


class Checkout:
    """A copy of the project's files in a folder and a git repository of its own."""

    def __init__(self, folder: Path, home: Path) -> None:
        """`home`: Prefect's, of the user that its processes run for."""
        self.folder = folder
        self._home = home

    def begin(self, preset: str) -> None:
        """Copy the project's files here, committed, with nothing built."""
        folder = self.folder
        listing = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for name in filter(None, listing.split("\0")):
            source = ROOT / name
            if source.is_file() and not any(Path(name).match(pattern) for pattern in BUILT):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        shutil.copy2(folder / "presets" / f"{preset}.yaml", folder / "params.yaml")
        self.run("git", "init", "--quiet")
        self.commit("Start")

    @property
    def environment(self) -> dict[str, str]:
        """Of every process here: this Python first, stages without Prefect unless a test says otherwise."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "FLOWS_", "LDM_", "GIT_"))}
        return kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PREFECT_HOME": str(self._home),
            "FLOWS_PLAIN": "1",
            "OMP_WAIT_POLICY": "PASSIVE",  # the same bytes, several times sooner where cores are shared
            "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@localhost",
            "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@localhost",
        }  # fmt: skip

    def run(self, *command: str, ok: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `command` here to its end; where it must be `ok` and is not, the test fails with what it printed."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment | environment, capture_output=True, text=True, check=False
        )
        assert not ok or done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start `command` here and leave it running."""
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment | environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def stage(self, stage: str, *name: str, ok: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one stage as DVC does."""
        return self.run(sys.executable, "-m", f"flows.{stage}", *name, ok=ok, **environment)

    def edit(self, old: str, new: str, file: str = "params.yaml") -> None:
        """Put `new` in the place of `old`, which must stand in `file`."""
        path = self.folder / file
        text = path.read_text()
        assert old in text, f"{file} has no {old!r}"
        path.write_text(text.replace(old, new))

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", message)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Callable[..., Checkout]:
    """Makes a new checkout in a folder of its own: nothing is built in it yet."""

    def make(name: str = "project", preset: str = "smoke") -> Checkout:
        project = Checkout(tmp_path_factory.mktemp("checkout") / name, tmp_path_factory.mktemp("prefect"))
        project.begin(preset)
        return project

    return make


@pytest.fixture(scope="session")
def rebuilt(tmp_path_factory) -> Checkout:
    """The smoke preset after one whole `dvc repro` without Prefect, and committed. Tests only read it.

    The processes of pytest-xdist build it once for all: whoever comes first, while the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    project = Checkout(shared / "rebuilt", shared / "prefect")
    with FileLock(f"{shared}.lock"):
        if not (shared / "built").exists():
            project.begin("smoke")
            project.run("dvc", "repro")
            project.commit("What the smoke preset makes")
            (shared / "built").touch()
    return project


class Server:
    """A Prefect server of this test session, started as `make server` does."""

    def __init__(self, project: Checkout, **settings: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.pages = f"http://127.0.0.1:{free.getsockname()[1]}"
        self.environment = {"PREFECT_API_URL": f"{self.pages}/api", "FLOWS_PLAIN": ""}
        """Of a process whose stages this server is to show."""
        said = project.stage("server", **self.environment, **settings).stdout
        self._pid = int(re.findall(r"kill (\d+)", said)[0])

    def ask(self, what: str, **question: Any) -> Any:
        """What the server's API answers to a filter."""
        request = Request(
            f"{self.pages}/api/{what}", json.dumps(question).encode(), {"Content-Type": "application/json"}
        )
        with urlopen(request) as reply:
            return json.load(reply)

    def run(self, said: str) -> Any:
        """The run of a pipeline, by the page that it named."""
        (found,) = re.findall(rf"{self.pages}/runs/flow-run/(\S+)", said)
        return self.ask("flow_runs/filter", flow_runs={"id": {"any_": [found]}})[0]

    def children(self, run: Any) -> dict[str, Any]:
        """The flow runs that were started by `run`, by name."""
        where = {"parent_flow_run_id": {"any_": [run["id"]]}}
        return {child["name"]: child for child in self.ask("flow_runs/filter", flow_runs=where)}

    def entries(self, run: Any) -> dict[str, Any]:
        """The entries on the timeline of `run`, by name."""
        where = {"id": {"any_": [run["id"]]}}
        return {entry["name"]: entry for entry in self.ask("task_runs/filter", flow_runs=where)}

    def artifacts(self, run: Any) -> dict[str, Any]:
        """What `run` shows, by key."""
        where = {"flow_run_id": {"any_": [run["id"]]}}
        return {artifact["key"]: artifact for artifact in self.ask("artifacts/filter", artifacts=where)}

    def log(self, run: Any) -> list[tuple[int, str]]:
        """Levels and lines that `run` logged, in order."""
        lines = self.ask("logs/filter", logs={"flow_run_id": {"any_": [run["id"]]}}, sort="TIMESTAMP_ASC")
        return [(line["level"], line["message"]) for line in lines]

    def start(self, deployment: str, within: float = 60, **parameters: Any) -> Any:
        """Start a run of `deployment` as its page does, and return the run when it has ended."""
        until = time.monotonic() + within
        while True:
            try:
                with urlopen(f"{self.pages}/api/deployments/name/{deployment}") as reply:
                    known = json.load(reply)["id"]
                break
            except HTTPError:
                assert time.monotonic() < until, f"no deployment {deployment}"
                time.sleep(0.2)
        run = self.ask(f"deployments/{known}/create_flow_run", parameters=parameters)["id"]
        while True:
            (found,) = self.ask("flow_runs/filter", flow_runs={"id": {"any_": [run]}})
            if found["state_type"] not in ("SCHEDULED", "PENDING", "RUNNING"):
                return found
            assert time.monotonic() < until, found["state_name"]
            time.sleep(0.5)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        os.killpg(self._pid, how)  # a server is started in a session of its own


@pytest.fixture(scope="session")
def server(checkout) -> Iterator[Server]:
    server = Server(checkout("server"))
    yield server
    server.end()


class Watched(NamedTuple):
    project: Checkout
    run: Any


@pytest.fixture(scope="session")
def watched(checkout, server) -> Watched:
    """The smoke preset after one whole `python -m flows.pipeline` under `server`, and its run. Tests only read it."""
    project = checkout("watched")
    said = project.stage("pipeline", **server.environment).stdout
    project.commit("What the smoke preset makes")
    return Watched(project, server.run(said))
