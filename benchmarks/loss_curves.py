"""Does training in bfloat16, with fused norms and CUDA graphs, follow the plain layers in float32?

The real training loop on drawn scenes of 32 pixels, 500 steps, under several seeds: once as the layers are written, in
float32, kernel by kernel; once as a GPU trains. The curves' distance is set beside the distance of two seeds, which is
what chance does to a curve.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.measure import arguments, machine, table, write
from ldm.autoencoder.cache import cache_latents
from ldm.autoencoder.config import Autoencoder, Latents
from ldm.autoencoder.train import train as train_autoencoder
from ldm.config import Run, load, section
from ldm.diffusion import train as loop
from ldm.diffusion.config import Diffusion
from ldm.nn import fused
from ldm.progress import Progress
from ldm.sources.config import Dataset
from ldm.sources.prepare import prepare
from ldm.sources.raw import opened

NONE = Path("data/weights/none")
NAME = "sr-f1"


def last(records: Iterator[Progress]) -> None:
    for _ in records:
        pass


def prepared(params: dict[str, Any], run: Run, folder: Path) -> Path:
    """Latents of drawn scenes: their pixels, with low-resolution pictures beside them."""
    row = params["diffusion"][NAME]
    latents = section(params, Latents, f"latents.{row['latents']}")
    stage = section(params, Autoencoder, f"autoencoders.{row['autoencoder']}")
    images, coder, out = folder / "images", folder / "coder", folder / "latents"
    last(prepare(opened(section(params, Dataset, f"datasets.{latents.dataset}"), NONE), images, folder / "parts"))
    last(train_autoencoder(stage, run, images, NONE, NONE, coder, folder / "resume"))
    last(cache_latents(latents, run, images, coder, NONE, NONE, out, folder / "resume"))
    return out


def curve(params: dict[str, Any], run: Run, folder: Path, seed: int, steps: int, plain: bool) -> list[float]:
    """The loss, averaged over every ten steps."""
    row = params["diffusion"][NAME]
    row["train"] |= {"seed": seed, "steps": steps, "save_every": 10**6, "picture_every": 10**6}
    config = section(params, Diffusion, f"diffusion.{NAME}")
    out, resume = folder / f"{seed}-{plain}", folder / f"resume-{seed}-{plain}"
    with ExitStack() as stack:
        if plain:
            stack.enter_context(patch.object(fused, "usable", lambda x: False))
            stack.enter_context(patch.object(loop, "graphed", lambda function, *_: function))
        trained = loop.train(config, run, folder / "latents", folder / "coder", NONE, out, resume)
        return [record.scalars["loss"] for record in trained if "loss" in record.scalars]


def apart(one: list[float], other: list[float]) -> float:
    """The mean distance of two curves, as a part of their height."""
    return mean(abs(a - b) / ((a + b) / 2) for a, b in zip(one, other, strict=True))


def main() -> None:
    options = arguments(__doc__, steps=500, seeds=3, count=0)
    params = load("presets/scenes.yaml")
    if options.count:
        params["datasets"]["scenes"]["source"]["count"] = options.count
    half = "bfloat16" if options.device == "cuda" else "float32"
    common = {"device": options.device, "threads": torch.get_num_threads(), "instructions": "native"}
    reference = Run.model_validate(common | {"mode": "exact", "precision": "float32"})
    fast = Run.model_validate(common | {"mode": "fast", "precision": half})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared(params, reference, folder)
        plain, quick = (
            [curve(params, run, folder, seed, options.steps, run is reference) for seed in range(options.seeds)]
            for run in (reference, fast)
        )
    modes = mean(apart(a, b) for a, b in zip(plain, quick, strict=True))
    seeds = mean(apart(a, b) for a, b in combinations(plain, 2)) if len(plain) > 1 else float("nan")
    rows = [
        ["fast beside reference, same seed", 100 * modes], ["reference, two seeds", 100 * seeds],
        ["last loss, reference", mean(c[-1] for c in plain)], ["last loss, fast", mean(c[-1] for c in quick)],
    ]  # fmt: skip
    table(f"{NAME}, {options.steps} steps; distances of loss curves in %", ["", ""], rows)
    found = {"reference": plain, "fast": quick, "modes_apart": modes, "seeds_apart": seeds}
    write(options.out, {"machine": machine(options.device)} | found)


if __name__ == "__main__":
    main()
