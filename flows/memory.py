"""Where a stage did not fit in the GPU's memory: which batch would fit, found by trying smaller ones.

The batch is a parameter and stays what it is: other batches give other results, so to choose one is the user's.
"""

import copy
import gc
import importlib
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.inputs import declaration
from ldm.config import load, lookup
from ldm.files import write_json

PATIENCE = 300.0
"""Seconds for the first unit of a trial; what takes longer counts as not fitting."""
UNIT = {"train_diffusion": "train.batch", "train_autoencoder": "train.batch"}
"""Where a row says its batch, if not as `batch`."""


def out_of_memory(error: BaseException) -> bool:
    """Whether a GPU had too little memory: torch's own error for that, also where another was raised on top of it."""
    torch = sys.modules.get("torch")
    while torch and error:
        if isinstance(error, torch.OutOfMemoryError):
            return True
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return False


def which_fits(stage: str, name: str, error: BaseException) -> str:
    """One line for a stage that ended in `error`, with the largest of the halved batches that fits.

    Frees what the stage held, then runs its first unit in processes of their own, with half the batch, a quarter, ...
    """
    table = table_of(stage)
    row = lookup(load(), f"{table}.{name}")
    place = UNIT.get(stage, "batch")
    batch = lookup(row, place)
    _free(error)
    said = f"out of GPU memory: params.yaml: {table}.{name}.{place}: {batch} does not fit"
    for smaller in halves(batch):
        print(f"{stage} {name}: {said}; trying {smaller}", file=sys.stderr, flush=True)
        if fits(stage, name, table, place, smaller):
            return f"{said}, {smaller} does; it is not changed for you, for another batch gives another result"
    return f"{said}, nor does a half of it, down to 1; take a smaller model, run.precision: bfloat16 or a larger GPU"


def halves(batch: int) -> Iterator[int]:
    """
    >>> list(halves(12))
    [6, 3, 1]
    """
    while batch > 1:
        batch //= 2
        yield batch


def table_of(stage: str) -> str:
    """The table of params.yaml whose rows the stage runs, as dvc.yaml says."""
    return str(load("dvc.yaml")["stages"][stage]["foreach"]).removeprefix("${").removesuffix("}")


def fits(stage: str, name: str, table: str, place: str, batch: int) -> bool:
    """Whether the first unit of the stage is done with this batch, in a folder of its own that is then removed."""
    params = copy.deepcopy(load())
    row = lookup(params, f"{table}.{name}")
    _set(row, place, batch)
    if "train" in row:  # with the discriminator, and a look at held-back data
        row["train"] |= {"picture_every": 1, "save_every": 1}
        if "adversarial_start" in row.get("loss", {}):
            row["loss"]["adversarial_start"] = 0
    with tempfile.TemporaryDirectory(prefix="fits-") as folder:
        there = Path(folder)
        write_json(there / "params.yaml", params)  # JSON is YAML too
        for dep in ("ldm", "flows", "dvc.yaml", *declaration(stage, name)["deps"]):
            link = there / dep
            if not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(Path(dep).absolute())
        command = [sys.executable, "-m", "flows.memory", stage, name]
        environment = os.environ | {"FLOWS_PLAIN": "1"}
        try:
            done = subprocess.run(
                command, cwd=there, env=environment, capture_output=True, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def main() -> int:
    """A trial: as far as the first unit."""
    stage, name = sys.argv[1:]
    return 0 if any(record.done for record in importlib.import_module(f"flows.{stage}").stage(name)) else 1


def _set(row: dict[str, Any], place: str, value: int) -> None:
    *parents, key = place.split(".")
    for parent in parents:
        row = row[parent]
    row[key] = value


def _free(error: BaseException) -> None:
    """Let go of all that the frames of `error` hold, for a trial needs the memory."""
    import torch

    while error:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
