"""What does it cost to train from cached latents, beside a batch that lies on the GPU, and beside encoding every step?

All three are the real training loop, `ldm.diffusion.train`, of the CelebA-HQ LDM-4 of presets/paper.yaml; only where
its batches come from differs. `cached`: its own, latents in random order from Arrow files on disk. `fixed`: one batch,
on the GPU, again and again. `encoded`: the first stage encodes a batch of pictures in every step; they are on the GPU
already, so reading and decoding them would come on top. Weights, latents and pictures are random.
"""

import gc
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.caching import first_stage, random_stage
from benchmarks.measure import arguments, result, table, write
from ldm.autoencoder.encoder import Encoder
from ldm.autoencoder.model import load
from ldm.config import Run, section
from ldm.config import load as load_params
from ldm.data.latents import Latents, write_latents
from ldm.data.pictures import to_float
from ldm.diffusion import train as loop
from ldm.diffusion.config import Diffusion
from ldm.files import identity, write_json, write_manifest
from ldm.progress import Progress
from ldm.training.exact import placed

GOAL = 0.98
WARM = 5
"""Steps before the clock starts."""
Feed = Iterator[dict[str, Tensor]]


def model_row(batch: int, small: bool) -> Diffusion:
    """The paper's row with another batch; `small`: a narrow UNet, to see that everything works."""
    row = load_params("presets/paper.yaml")["diffusion"]["celeba256"]
    row["train"] |= {"batch": batch, "save_every": 10**9, "picture_every": 10**9, "steps": 10**9}
    if small:
        row["unet"] |= {"channels": 32, "channel_mult": [1], "num_res_blocks": 1, "attention_factors": []}
    return section({"celeba256": row}, Diffusion, "celeba256")


def random_latents(folder: Path, stage: Path, count: int, side: int) -> Path:
    """A folder of latents as the VQ-f4 of `stage` would write it."""
    shape = [3, side, side]
    with write_latents(folder, "train", {"mean": shape}) as append:
        for start in range(0, count, 256):
            rows = range(start, min(start + 256, count))
            mean = torch.randn(len(rows), *shape, generator=torch.Generator().manual_seed(start))
            append([f"{i:07d}" for i in rows], [0] * len(rows), [-1] * len(rows), {"mean": mean})
    about: dict[str, Any] = {
        "autoencoder": identity(stage), "counts": {"train": count}, "shapes": {"mean": shape}, "latent_shape": shape,
        "channel_mean": [0.0] * 3, "channel_std": [1.0] * 3, "classes": None, "vocabulary_size": 0, "null_tokens": [],
        "health": {"warnings": []},
    }  # fmt: skip
    write_json(folder / "latents.json", about)
    write_manifest(folder)
    return folder


def encoding(stage: Path, run: Run, batch: int, size: int) -> Feed:
    """Latents of the same pictures, encoded again in every step."""
    device = torch.device(run.device)
    encoder = Encoder(placed(load(stage), device), batch, run)
    pixels = torch.randint(256, (batch, 3, size, size), dtype=torch.uint8, device=device)
    while True:
        yield {"mean": encoder(to_float(pixels)).mean}


def training(row: Diffusion, run: Run, folder: Path, name: str, feed: Feed | None) -> Iterator[Progress]:
    """The loop with batches from `feed`, else with its own."""
    records = loop.train(
        row, run, folder / "latents", folder / "stage", Path("none"), folder / f"{name}-out", folder / f"{name}-state"
    )
    if feed is None:
        return records
    with patch.object(
        loop, "batches", lambda *_: (rows for rows in feed)
    ):  # until it has taken the first: it asks for them once
        return itertools.chain([next(records)], records)


def steps(records: Iterator[Progress], count: int, device: str) -> float:
    """Seconds a step."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(count):
        next(records)
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / count


def main(argv: list[str] | None = None) -> dict[str, Any]:
    options = arguments(
        __doc__,
        argv,
        batch=48,
        size=256,
        latents=20000,
        steps=60,
        rounds=3,
        mode=("exact", "fast"),
        small=False,
    )
    half = options.device == "cuda"
    run = Run(
        mode=options.mode, device=options.device, precision="bfloat16" if half else "float32",
        threads=torch.get_num_threads(), instructions="native",
    )  # fmt: skip
    row, taken = model_row(options.batch, options.small), dict[str, list[float]]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stage = random_stage(folder / "stage", first_stage("vq-f4", options.small))
        side = options.size // load(stage).factor
        latents = Latents(random_latents(folder / "latents", stage, options.latents, side), "train")
        fixed = {n: v.to(options.device) for n, v in latents.read(torch.arange(options.batch)).items()}
        feeds: dict[str, Callable[[], Feed | None]] = {
            "cached": lambda: None,
            "fixed": lambda: itertools.repeat(fixed),
            "encoded": lambda: encoding(stage, run, options.batch, options.size),
        }
        for _, (way, feed) in itertools.product(range(options.rounds), feeds.items()):
            records = training(row, run, folder, way, feed())  # begun again each time: all three do not fit a GPU
            steps(records, WARM, options.device)
            taken.setdefault(way, []).append(steps(records, options.steps, options.device))
            del records
            gc.collect()
            torch.cuda.empty_cache()

    rates = {way: options.batch / median(repeats) for way, repeats in taken.items()}
    ratio, factor = rates["cached"] / rates["fixed"], rates["cached"] / rates["encoded"]
    table(
        f"Training LDM-4, batch {options.batch}; goal {GOAL} of a batch on the GPU",
        ["batches", "pictures/s", "of fixed"],
        [(way, rate, rate / rates["fixed"]) for way, rate in rates.items()],
    )
    print(f"cached latents train {factor:.2f} times as fast as encoding in every step")
    measured = result(options, taken, ratio=ratio, goal=GOAL, factor=factor, pictures_per_second=rates)
    write(options.out, measured)
    return measured


if __name__ == "__main__":
    main()
