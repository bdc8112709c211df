"""The Prefect server is killed in a training, and back a while later: the training goes on, the pages catch up."""

import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

from torture.bench import STAGES, Bench, Fault, Try
from torture.process import run
from torture.project import STEPS, Project
from torture.stops import saved

STAGE = "train_diffusion"
MANY = 600
"""Steps enough to outlive a server's start."""


def tries() -> Iterator[Try]:
    yield "Prefect server killed and restarted in a training", _killed_and_restarted


def _killed_and_restarted(bench: Bench, fault: Fault) -> None:
    name = STAGES[STAGE]
    with bench.copy() as project, bench.copy() as undisturbed:
        for each in (undisturbed, project):
            each.edit(
                f"steps: {STEPS}, batch: 4, lr: 2.0e-3, warmup: 5, loss",
                f"steps: {MANY}, batch: 4, lr: 2.0e-3, warmup: 5, loss",
            )
            bench.clear(each, STAGE)
        run(undisturbed.folder, STAGE, name)
        with socket.create_server(("127.0.0.1", 0)) as free:
            api = f"http://127.0.0.1:{free.getsockname()[1]}/api"
        server = _started(project, api)
        try:
            training = project.start(sys.executable, "-m", f"flows.{STAGE}", name, PREFECT_API_URL=api, FLOWS_PLAIN="")
            while len(saved(project, STAGE)) < 2 and training.poll() is None:
                time.sleep(0.01)
            os.killpg(server, signal.SIGKILL)
            alive = training.poll() is None
            time.sleep(2)
            server = _started(project, api)
            back = training.poll() is None
            said, _ = training.communicate()
            entry = _asked(api, "flow_runs/filter", flow_runs={"name": {"any_": [f"{STAGE} {name}"]}})[0]
            shown = _asked(api, "artifacts/filter", artifacts={"flow_run_id": {"any_": [entry["id"]]}})
        finally:
            os.killpg(server, signal.SIGTERM)
        progress = [artifact["data"] for artifact in shown if artifact["type"] == "progress"]
        caught_up = entry["state_name"] == "Completed" and progress == [100.0]
        promised = alive and back and training.returncode == 0 and caught_up and "Traceback" not in said
        state = entry["state_name"]
        note = f"{alive=} {back=} {training.returncode} {state} {progress}: {said[-600:]}"
        fault.add(promised, bench.differing(project, undisturbed), note)


def _started(project: Project, api: str) -> int:
    """Process group of a server, which answers."""
    _, said = project.run(sys.executable, "-m", "flows.server", PREFECT_API_URL=api)
    return int(re.findall(r"kill (\d+)", said)[0])


def _asked(api: str, what: str, **question: Any) -> Any:
    request = Request(f"{api}/{what}", json.dumps(question).encode(), {"Content-Type": "application/json"})
    with urlopen(request) as reply:
        return json.load(reply)
