"""The Prefect server is killed in a training, and back a while later: the training goes on, the pages catch up."""

import json
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

from torture.bench import STAGES, Bench, Fault, clear
from torture.project import Project, contents, outputs
from torture.stops import saved

STAGE = "train_diffusion"
STEPS = 300
"""Enough to outlive a server's start."""


def faults(bench: Bench) -> Iterator[Fault]:
    fault = Fault(name="Prefect server killed and restarted in a training")
    name = STAGES[STAGE]
    with bench.copy() as project:
        project.edit(
            "train: {steps: 20, batch: 8, lr: 2.0e-3, warmup: 5, loss",
            f"train: {{steps: {STEPS}, batch: 8, lr: 2.0e-3, warmup: 5, loss",
        )
        clear(project, STAGE, name)
        command = sys.executable, "-m", f"flows.{STAGE}", name
        project.run(*command)
        before = contents(project.folder, outputs(STAGE, name))
        clear(project, STAGE, name)
        shutil.rmtree(project.home / ".prefect", ignore_errors=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            api = f"http://127.0.0.1:{free.getsockname()[1]}/api"
        server = _started(project, api)
        try:
            training = project.start(*command, PREFECT_API_URL=api, FLOWS_PLAIN="")
            while len(saved(project, STAGE, name)) < 2 and training.poll() is None:
                time.sleep(0.01)
            os.killpg(server, signal.SIGKILL)
            alive = training.poll() is None
            time.sleep(2)
            server = _started(project, api)
            back = training.poll() is None
            said, _ = training.communicate()
            run = _asked(api, "flow_runs/filter", flow_runs={"name": {"any_": [f"{STAGE} {name}"]}})[0]
            shown = _asked(api, "artifacts/filter", artifacts={"flow_run_id": {"any_": [run["id"]]}})
        finally:
            os.killpg(server, signal.SIGTERM)
        progress = [artifact["data"] for artifact in shown if artifact["type"] == "progress"]
        caught_up = run["state_name"] == "Completed" and progress == [100.0]
        promised = alive and back and training.returncode == 0 and caught_up and "Traceback" not in said
        after = contents(project.folder, outputs(STAGE, name))
        differing = [path for path in before | after if before.get(path) != after.get(path)]
        fault.add(
            promised, differing, f"{alive=} {back=} {training.returncode} {run['state_name']} {progress}: {said[-600:]}"
        )
    yield fault


def _started(project: Project, api: str) -> int:
    """Process group of a server, which answers."""
    _, said = project.run(sys.executable, "-m", "flows.server", PREFECT_API_URL=api)
    return int(re.findall(r"kill (\d+)", said)[0])


def _asked(api: str, what: str, **question: Any) -> Any:
    request = Request(f"{api}/{what}", json.dumps(question).encode(), {"Content-Type": "application/json"})
    with urlopen(request) as reply:
        return json.load(reply)
