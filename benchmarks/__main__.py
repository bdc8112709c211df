"""Run every benchmark that this machine can, one after the other, and say which were left out and why.

A script says in `NEEDS` what it cannot do without: "cuda", or the name of a package.
"""

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.measure import table


def missing(script: str) -> str | None:
    """What `script` needs and this machine does not have."""
    try:
        needs: tuple[str, ...] = getattr(import_module(f"benchmarks.{script}"), "NEEDS", ())
    except ImportError as error:
        return str(error)
    for need in needs:
        if not (torch.cuda.is_available() if need == "cuda" else find_spec(need)):
            return f"needs {need}"
    return None


def main() -> int:
    scripts = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py") if path.stem != "measure")
    outcomes: list[tuple[str, str]] = []
    for script in scripts:
        lacking = missing(script)
        if lacking:
            outcomes.append((script, f"left out: {lacking}"))
            continue
        print(f"\n== {script}", flush=True)
        code = subprocess.run([sys.executable, "-m", f"benchmarks.{script}"], check=False).returncode
        outcomes.append((script, "measured" if code == 0 else f"failed with exit code {code}"))
    table("Benchmarks", ["script", "outcome"], outcomes)
    return int(any(outcome.startswith("failed") for _, outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
