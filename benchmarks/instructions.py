"""What does it cost to cap the CPU's instruction set (`run.instructions: avx2`)?

Steps of both trainings, of the smoke preset and of the default, capped and not, in turn, each in a process of its own,
for code paths are chosen when torch is imported. Widths and batches are as they are, data and steps few
(flows/shrunk.py). Counted is processor time, of all threads, which other work on the machine changes little.
"""

import json
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import arguments, result, table, write
from flows.rehearsal import RECORDS, Rehearsal
from flows.shrunk import Shrunk
from ldm.config import load
from ldm.files import write_json

PRESETS = ("smoke", "scenes")
"""`scenes` is the default."""
TRAININGS = {"train_diffusion": "text-f4", "train_autoencoder": "kl-f4"}
"""In this order: the first needs the autoencoder that made its latents."""
LIMIT = 300.0
"""Seconds for one stage."""


def processor_seconds(folder: Path, stage: str, name: str, params: dict[str, Any], instructions: str) -> float:
    """Of one step, the median, of a training whose inputs are in `folder`."""
    write_json(folder / "params.yaml", params | {"run": params["run"] | {"instructions": instructions}})
    subprocess.run([sys.executable, "-m", "flows.rehearsal", stage, name], cwd=folder, capture_output=True, check=True)
    lines = [json.loads(line) for line in (folder / RECORDS).read_text().splitlines()]
    steps = [line for line in lines if line["done"]]
    return median(after["processor"] - before["processor"] for before, after in pairwise(steps))


def main() -> None:
    options = arguments(__doc__, repeats=5)
    taken: dict[str, list[float]] = {}
    for preset in PRESETS:
        small = Shrunk(load(f"presets/{preset}.yaml"))
        names = {stage: small.rows(stage, name)[0] for stage, name in TRAININGS.items()}
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            Rehearsal(folder, small, LIMIT).measure(names["train_diffusion"])
            for stage, name in names.items():
                for _ in range(options.repeats):
                    for instructions in ("native", "avx2"):
                        seconds = processor_seconds(folder, stage, name, small.params, instructions)
                        taken.setdefault(f"{preset} {stage} {instructions}", []).append(seconds)
    measured = result(options, taken)
    medians, rows = measured["median"], []
    for kind in dict.fromkeys(name.rpartition(" ")[0] for name in medians):
        native, capped = medians[f"{kind} native"], medians[f"{kind} avx2"]
        rows.append((kind, native, capped, f"{capped / native - 1:+.1%}"))
    table("Processor seconds a step", ["training", "native", "avx2", "capped costs"], rows)
    write(options.out, measured | {"costs": {kind: share for kind, _, _, share in rows}})


if __name__ == "__main__":
    main()
