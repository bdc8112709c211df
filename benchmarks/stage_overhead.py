"""What does a stage cost beside its own work: imports, Prefect with a server running, and DVC?

In a copy of the project with the smoke preset, where all is built, each stage runs in four ways, in turn: its generator
alone, `python -m flows.STAGE --plain`, the same in Prefect, and `dvc repro` of that one stage.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.measure import arguments, result, table, write
from benchmarks.up_to_date import copy_of_project

NEEDS = ("dvc", "prefect")
GOAL = 6.0
STAGES = {"prepare": "scenes", "train_diffusion": "text-f4", "sample": "text-f4"}
"""Those measured: the one that imports least, and the two that run most often."""
WORK = """
import time
from flows.{stage} import stage
started = time.perf_counter()
for _ in stage("{name}"):
    pass
print(time.perf_counter() - started)
"""


def run(folder: Path, environment: dict[str, str], *command: str) -> tuple[float, str]:
    """Seconds that `python COMMAND` takes, and what it prints."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    taken = time.perf_counter() - started
    if done.returncode or "goes on without Prefect" in done.stderr:
        sys.exit(f"python {' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return taken, done.stdout


@contextmanager
def prefect_server(folder: Path, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """`environment` with a Prefect server of its own, which ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        api = f"http://127.0.0.1:{free.getsockname()[1]}/api"
    with_server = environment | {"PREFECT_API_URL": api}
    said = run(folder, with_server, "-m", "flows.server")[1]
    (process,) = re.findall(r"kill (\d+)", said)
    try:
        yield with_server
    finally:
        os.kill(int(process), signal.SIGTERM)


def ways(folder: Path, environment: dict[str, str], stage: str, name: str) -> dict[str, float]:
    """Seconds of the stage in each way; in the first, without what Python takes to start and import."""
    work = run(folder, environment, "-c", WORK.format(stage=stage, name=name))[1]
    return {
        "work": float(work.split()[-1]),
        "plain": run(folder, environment, "-m", f"flows.{stage}", name, "--plain")[0],
        "prefect": run(folder, environment, "-m", f"flows.{stage}", name)[0],
        "dvc": run(folder, environment, "-m", "dvc", "repro", "--single-item", "--force", f"{stage}@{name}")[0],
    }


def main() -> None:
    options = arguments(__doc__, repeats=5)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "FLOWS_"))}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve() / "project"
        environment = kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PREFECT_HOME": str(Path(temporary, "prefect")),
        }
        copy_of_project(folder, "smoke")
        run(folder, environment | {"FLOWS_PLAIN": "1"}, "-m", "dvc", "repro", "sample@text-f4")
        taken: dict[str, list[float]] = {}
        with prefect_server(folder, environment) as with_server:
            for stage, name in STAGES.items():
                ways(folder, with_server, stage, name)  # warms the files' cache, and the server
                for _ in range(options.repeats):
                    for way, spent in ways(folder, with_server, stage, name).items():
                        taken.setdefault(f"{stage} {way}", []).append(spent)
    rows = []
    for stage in STAGES:
        work, plain, prefect, dvc = (median(taken[f"{stage} {way}"]) for way in ("work", "plain", "prefect", "dvc"))
        rows.append([stage, plain - work, prefect - plain, dvc - prefect, dvc - work])
    overhead = {stage: total for stage, *_, total in rows}
    title = f"Seconds of a stage beside its own work, a server running (goal {GOAL:g} s)"
    table(title, ["stage", "Python and imports", "Prefect", "DVC", "all"], rows)
    write(options.out, result(options, taken, overhead=overhead, goal=GOAL))


if __name__ == "__main__":
    main()
