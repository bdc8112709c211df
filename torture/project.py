"""A copy of this project with a small preset, in a folder and a git repository of its own."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILT = ("dvc.lock", "environment.json", "metrics/*.json", "metrics/autoencoders/*.json")
"""What git tracks and a run writes: a new copy starts without."""
STEPS = 10
"""Of every training."""
SMALLER = {
    "threads: 2": "threads: 1",
    "count: 120": "count: 60",
    "steps: 20, batch: 8": f"steps: {STEPS}, batch: 4",
    "save_every: 6, picture_every: 10": "save_every: 3, picture_every: 5",
    "adversarial_start: 10": "adversarial_start: 5",
    "count: 16": "count: 8",
    "num_steps: 4": "num_steps: 2",
    "batch: 8, seed": "batch: 4, seed",
    "trials: 3": "trials: 1",
    "practice: 2": "practice: 1",
    "catch: 4": "catch: 2",
}
"""presets/smoke.yaml, so edited, is what everything is tried on: a stage takes a second, and a thread is one core's."""
REPRO = sys.executable, "-m", "dvc", "repro"


class Project:
    def __init__(self, folder: Path, home: Path) -> None:
        """`home`: of the user that its processes run for."""
        self.folder, self.home = folder, home
        home.mkdir(parents=True, exist_ok=True)

    @classmethod
    def new(cls, folder: Path, home: Path) -> "Project":
        """The files of this project as they are, with the small preset, committed, with nothing built."""
        project = cls(folder, home)
        for name in project.files():
            if not any(Path(name).match(pattern) for pattern in BUILT):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        shutil.copy2(folder / "presets/smoke.yaml", folder / "params.yaml")
        for old, new in SMALLER.items():
            project.edit(old, new)
        project.run("git", "init", "--quiet")
        project.commit("Start")
        return project

    @staticmethod
    def files() -> list[str]:
        """Tracked by git, or new and not ignored."""
        listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        return [name for name in names if name and (ROOT / name).is_file()]

    def copied(self, folder: Path) -> "Project":
        """Again, with its results and DVC cache, and a home of its own beside it."""
        shutil.copytree(self.folder, folder, symlinks=True, ignore=lambda path, names: {"cache"} & {*names})
        cache = Path(".dvc/cache")  # DVC never writes into a file of its cache, so one will do for all
        shutil.copytree(self.folder / cache, folder / cache, copy_function=os.link)
        return Project(folder, folder.with_name("home"))

    @property
    def environment(self) -> dict[str, str]:
        """Of every process here: this Python first, and no server that this machine may have."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "FLOWS_", "LDM_", "GIT_", "DVC_"))}
        who = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in WHO.items()}
        paths = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home), "PREFECT_HOME": str(self.home / ".prefect"),
            "DVC_SITE_CACHE_DIR": str(self.home / ".dvc-site"),
        }  # fmt: skip
        quiet = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        return kept | who | paths | quiet | {"FLOWS_PLAIN": "1", "OMP_WAIT_POLICY": "PASSIVE"}

    def start(self, *command: str, **environment: str) -> "subprocess.Popen[str]":
        """In a process group of its own."""
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment | environment, process_group=0,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *command: str, ok: bool = True, **environment: str) -> tuple[int, str]:
        """To its end; exit code and what it said. Raises where it must be `ok` and is not."""
        process = self.start(*command, **environment)
        try:
            said, _ = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        if ok and process.returncode:
            raise RuntimeError(f"{' '.join(command)} in {self.folder}: exit code {process.returncode}\n{said[-3000:]}")
        return process.returncode, said

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", message)

    def edit(self, old: str, new: str, file: str = "params.yaml") -> None:
        """Put `new` in the place of `old`, which must stand in `file`."""
        text = (self.folder / file).read_text()
        if old not in text:
            raise RuntimeError(f"{file} has no {old!r}")
        (self.folder / file).write_text(text.replace(old, new))


WHO = {"NAME": "torture", "EMAIL": "torture@localhost"}


def contents(folder: Path, paths: Iterable[str]) -> dict[str, bytes]:
    """The bytes of every file at or below `paths`, but for what a killed process had not finished and is in no hash."""
    found = [
        file
        for path in paths
        for file in ([folder / path] if (folder / path).is_file() else (folder / path).rglob("*"))
    ]
    whole = [
        file for file in found if file.is_file() and not (file.name.startswith(".") and file.name.endswith(".part"))
    ]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in whole if file.name != "run.html"}
