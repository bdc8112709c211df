"""Several real processes, each of which runs this module: batches of numbers, then the samples of a folder."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ldm.config import Run
from ldm.evaluation.config import SampleEvaluation
from ldm.evaluation.samples import evaluate
from ldm.evaluation.shared import shared
from ldm.progress import Progress
from ldm.training.several import Processes

ROOT = Path(__file__).resolve().parents[2]
COUNTS = range(8)
"""Of batches."""


def together(count: int, folder: Path) -> None:
    """Each leaves what it got in a file named after its rank; the first writes figures to several.json."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    place = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, __file__, str(folder)]
    started = [
        subprocess.Popen(command, env=os.environ | place | {"RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(count)
    ]
    for process in started:
        _, wrong = process.communicate(timeout=120)
        assert process.returncode == 0, wrong[-3000:]


def computed(batch: int) -> dict[str, Tensor]:
    """Of other names and sizes for each batch; a view with gaps among them."""
    rows = torch.arange(12, dtype=torch.float64).view(3, 4) / (batch + 1)
    return {"rows": rows[:, : batch % 4], "odd": torch.tensor([bool(batch % 2)])} if batch % 3 else {"sum": rows.sum()}


def share(folder: Path) -> None:
    """Save what this process gets and what it was asked for, for so many batches and so many."""
    processes, asked = Processes(torch.device("cpu")), list[int]()
    processes.join()

    def compute(batch: int) -> dict[str, Tensor]:
        asked.append(batch)
        return computed(batch)

    got = [list(shared(range(count), compute, processes)) for count in COUNTS]
    processes.leave()
    torch.save({"got": got, "asked": asked}, folder / str(processes.rank))


def measured(folder: Path, out: Path) -> Iterator[Progress]:
    """Every figure of the samples in `folder`, five at a time."""
    run = Run(mode="exact", device="cpu", threads=1, instructions="avx2")
    names = dict.fromkeys(("samples", "dataset", "reference", "features", "perceptual", "clip"), "x")
    config = SampleEvaluation(
        **names, figures=["fidelity", "paired", "caption_colour", "clip_score", "neighbours"], batch=5
    )
    places = (folder / name for name in ("samples", "scenes", "reference", "none", "none", "clip"))
    return evaluate(config, run, *places, out)


if __name__ == "__main__":
    here = Path(sys.argv[1])
    share(here)
    for _ in measured(here, here / "several.json"):
        pass
