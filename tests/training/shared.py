"""Trainings of several real processes, each of which runs this module on the same list of them."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch.distributed as dist

from ldm.autoencoder.config import Autoencoder
from ldm.autoencoder.train import train as train_autoencoder
from ldm.config import Run, check
from ldm.diffusion.config import Diffusion
from ldm.diffusion.train import train as train_diffusion
from ldm.progress import Progress

ROOT = Path(__file__).resolve().parents[2]
NONE = Path("none")


@dataclass(frozen=True)
class Training:
    """A row of `autoencoders` or `diffusion`, and how far to train it."""

    row: dict[str, Any]
    made: str
    """The folder with images, autoencoder and latents."""
    out: str
    mode: str = "exact"
    records: int | None = None
    """Left after so many; None: trained to the end."""

    def start(self) -> Iterator[Progress]:
        run = Run(mode=self.mode, device="cpu", threads=1, instructions="avx2")  # type: ignore[arg-type]
        made, out = Path(self.made), Path(self.out)
        resume = out.with_name(out.name + "-state")
        if "unet" in self.row:
            config = check(self.row, Diffusion, "diffusion.x")
            return train_diffusion(config, run, made / "latents", made / "autoencoder", NONE, out, resume)
        return train_autoencoder(
            check(self.row, Autoencoder, "autoencoders.x"), run, made / "images", NONE, NONE, out, resume
        )

    def run(self) -> list[Progress]:
        records = self.start()
        seen = list(islice(records, self.records))
        records.close()  # type: ignore[attr-defined]
        if dist.is_initialized():  # it was left on the way
            dist.destroy_process_group()
        return seen


def together(count: int, trainings: Sequence[Training]) -> list[subprocess.CompletedProcess[str]]:
    """Run them one after the other, each in `count` processes, which are started once."""
    started = []
    ports = [_free_port() for _ in trainings]
    for rank in range(count):
        place = {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "PYTHONPATH": str(ROOT)}
        jobs = json.dumps([[port, asdict(training)] for port, training in zip(ports, trainings, strict=True)])
        command = [sys.executable, __file__, jobs]
        started.append(
            subprocess.Popen(
                command, env=os.environ | place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )  # fmt: skip
    return [subprocess.CompletedProcess(p.args, *_ended(p)) for p in started]


def _ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    said, wrong = process.communicate(timeout=300)
    return process.returncode, said, wrong


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


if __name__ == "__main__":
    for port, values in json.loads(sys.argv[1]):
        os.environ["MASTER_PORT"] = str(port)
        Training(**values).run()
