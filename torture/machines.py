"""A worker on another machine is killed in the midst of a training: what tests/flows/test_many_machines.py tries."""

import subprocess
import sys
from collections.abc import Iterator

from torture.bench import Bench, Fault, Try
from torture.project import ROOT


def tries() -> Iterator[Try]:
    yield "a worker killed in a training; another makes it", _on_two_machines


def _on_two_machines(bench: Bench, fault: Fault) -> None:
    command = [sys.executable, "-m", "pytest", "-m", "torture", "tests/flows/test_many_machines.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    fault.add(done.returncode == 0, note=done.stdout[-2000:])
