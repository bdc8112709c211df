"""A worker: this clone runs stages that a pipeline elsewhere hands out, one at a time (docs/many-machines.md).

Each stage is run at the revision it was asked for; what it reads and makes goes through DVC's remote.
"""

import argparse
import os
import socket
import subprocess
import sys
from pathlib import Path

import flows.show  # noqa: F401  first of all, for it sets Prefect up

# isort: split
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.graph import Graph
from flows.revision import check_out, revision
from flows.server import answers
from flows.show import GO_ON
from flows.stage import explain, mendable
from flows.timeline import Timeline

CLONE = "LDM_CLONE"
"""Environment variable that holds the folder of the worker's clone."""


def clone() -> dict[str, str]:
    """The pull step of prefect.yaml: a run takes place in the clone of the worker that took it."""
    os.chdir(os.environ[CLONE])
    return {"directory": os.environ[CLONE]}


@flow(name="stage")
def stage(target: str, revision: str) -> State:
    """Run the stage of the address `target` at `revision`, in this worker's clone, as a process of its own."""
    try:
        check_out(revision)
    except ValueError as error:
        return Failed(message=f"{socket.gethostname()}: {error}")
    timeline = Timeline()
    environment = {**os.environ, **timeline.begin(target, ())}
    # In a new process: this one has the code of the revision before.
    command = [sys.executable, "-m", "flows.remote", target]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    last = ""
    try:
        for line in process.stderr or ():
            print(line, end="", file=sys.stderr, flush=True)
            last = line.strip() or last
        code = process.wait()
    except BaseException:
        process.terminate()  # it has the stage save its state
        process.wait()
        raise
    state: State = Failed(message=last or f"exit code {code}") if code else Completed(message="done, and in the remote")
    shown = timeline.end(target, state.model_copy(deep=True))  # Prefect writes into it of which entry it is
    if not code:
        return state
    reason = (shown.message or "").partition(GO_ON)[0]  # of the stage itself, where it could say one
    return Failed(message=f"{reason}{GO_ON}python -m flows.remote {target}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.worker", description=(__doc__ or "").strip())
    parser.add_argument(
        "--pool", default="ldm", help="the work pool to take stages from (ldm); made if it is not there"
    )
    pool = parser.parse_args().pool
    api = os.environ.get("PREFECT_API_URL", "")
    try:
        if not answers(api):
            raise ValueError(
                f"no Prefect server answers at PREFECT_API_URL={api or '(unset)'}; name the one to work for"
            )
        revision()  # refuses edited files
        Graph().fetch_runs()  # refuses a clone without a remote, or one out of reach
    except Exception as error:
        if not mendable(error):
            raise
        sys.exit(f"worker: {explain(error)}")
    here = str(Path.cwd())
    os.environ[CLONE] = here
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    os.environ["PREFECT_LOGGING_LEVEL"] = "INFO"
    name = f"{socket.gethostname()}-{os.getpid()}"  # new each time: a pipeline tells by it that a worker is gone
    command = ["-m", "prefect", "worker", "start", "--type", "process", "--limit", "1", "--name", name, "--pool", pool]
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    main()
