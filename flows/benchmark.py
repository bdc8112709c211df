"""How fast this machine draws and trains what params.yaml names: images a second, for the report.

Rates are not results: they differ on every run, so DVC neither makes nor hashes them; git keeps them beside the name
of the machine that gave them (`benchmarks/results/rates.json`), each under a hash of the rows that were measured, so
that presets may share names. `python -m flows.benchmark --help` has examples.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from flows.record import environment
from flows.sample import shards
from ldm.autoencoder.config import Autoencoder, Identity
from ldm.autoencoder.train import train as train_autoencoder
from ldm.config import Run, load, section
from ldm.diffusion.config import Diffusion
from ldm.diffusion.train import train
from ldm.files import MANIFEST, read_json, write_json
from ldm.progress import Progress
from ldm.report.rates import RATES, ROWS, Table, key
from ldm.sampling.plan import step_list

WARM, TIMED = 4, 12
"""Training steps before the clock starts, and on it."""


def sampling_rate(name: str, run: Run) -> dict[str, float]:
    """Draw one batch of the row `samples.NAME` as its stage does, warmed up by one before it, from noise to a file."""
    taken = 0.0
    with tempfile.TemporaryDirectory() as warm, tempfile.TemporaryDirectory() as timed:
        work = shards(name, Path(warm))
        for folder in (warm, timed):
            started = time.perf_counter()
            replace(work, folder=Path(folder)).batch(0)  # the pictures' way to the CPU waits for the device
            taken = time.perf_counter() - started
    config = work.config
    steps = len(step_list(len(work.model.schedule), config))
    evaluations = config.batch * steps * (2 if config.guidance != 1 else 1)
    return {
        "images_per_second": rounded(config.batch / taken),
        "batch": config.batch,
        "num_steps": steps,
        "evaluations_per_second": rounded(evaluations / taken),
    }


def first_stage_rate(name: str, run: Run) -> dict[str, float]:
    """A few steps of the real loop of `autoencoders.NAME`, before its discriminator joins and after, weighed."""
    config = section(load(), Autoencoder, f"autoencoders.{name}").root
    assert not isinstance(config, Identity)
    steps = config.train.steps
    alone = min(config.loss.adversarial_start, steps) if config.loss.adversarial_weight else steps
    few = config.train.model_copy(update={"steps": WARM + TIMED + 1, "warmup": 1})
    seconds = 0.0
    for count, joins in ((alone, few.steps), (steps - alone, 0)):
        loss = config.loss.model_copy(update={"adversarial_start": joins})
        short = Autoencoder(config.model_copy(update={"train": few, "loss": loss}))
        if count:
            seconds += count * median(_first_stage_steps(short, run))
    rate = steps * config.train.batch / seconds
    return {"images_per_second": rounded(rate), "batch": config.train.batch, "hours": rounded(seconds / 3600)}


def _first_stage_steps(config: Autoencoder, run: Run) -> list[float]:
    assert not isinstance(config.root, Identity)
    with tempfile.TemporaryDirectory() as folder:
        records = train_autoencoder(
            config,
            run,
            images=Path("data/prepared", config.root.dataset),
            weights=Path("data/weights", config.root.perceptual),
            initial=Path("models/autoencoders", config.root.init_from),
            out=Path(folder, "out"),
            resume=Path(folder, "resume"),
        )
        return _steps(records)


def training_rate(name: str, run: Run) -> dict[str, float]:
    """A few steps of the real loop of `diffusion.NAME`; `hours` is what all of its steps take at that rate."""
    config = section(load(), Diffusion, f"diffusion.{name}")
    few = config.train.model_copy(update={"steps": WARM + TIMED + 1, "warmup": 1, "snapshots": []})
    with tempfile.TemporaryDirectory() as folder:
        records = train(
            config.model_copy(update={"train": few}),
            run,
            latents=Path("data/latents", config.latents),
            autoencoder=Path("models/autoencoders", config.autoencoder),
            initial=Path("models/diffusion", config.init_from),
            out=Path(folder, "out"),
            resume=Path(folder, "resume"),
        )
        rate = config.train.batch / median(_steps(records))
    return {
        "images_per_second": rounded(rate),
        "batch": config.train.batch,
        "hours": rounded(config.train.steps * config.train.batch / rate / 3600),
    }


def _steps(records: Iterator[Progress]) -> list[float]:
    """Seconds of each timed step; the queue of the device is emptied after each."""
    stamps: deque[float] = deque(maxlen=TIMED + 1)
    for record in records:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        stamps.append(time.perf_counter())
        if record.done == WARM + TIMED:
            break
    return [after - before for before, after in itertools.pairwise(stamps)]


def rounded(value: float) -> float:
    return float(f"{value:.3g}")


def made(table: str, place: str, wanted: Sequence[str]) -> list[str]:
    """Names of `table` in params.yaml of which what they read is there; ValueError for one of which it is not.

    Of first stages, those that are trained.
    """
    rows: Mapping[str, Any] = load()[table]
    if unknown := [name for name in wanted if name not in rows]:
        raise ValueError(f"params.yaml: {table} has no '{unknown[0]}'; names: {', '.join(rows)}")
    reads = {"samples": "model", "diffusion": "latents", "autoencoders": "dataset"}[table]
    if identities := [name for name in wanted if rows[name].get("kind") == "identity"]:
        raise ValueError(f"params.yaml: {table}.{identities[0]}: an identity is not trained, so it has no rate")
    needed = {name: Path(place, row[reads]) for name, row in rows.items() if row.get("kind") != "identity"}
    there = [name for name, folder in needed.items() if (folder / MANIFEST).is_file()]
    if missing := [name for name in wanted if name not in there]:
        raise ValueError(f"{needed[missing[0]]}: not made yet; dvc repro makes it, then its rate can be measured")
    return [name for name in there if not wanted or name in wanted]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m flows.benchmark",
        description=__doc__,
        epilog="examples:\n  python -m flows.benchmark\n  python -m flows.benchmark --samples sr-f4 sr-f1 --training",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--samples", nargs="*", metavar="NAME", help="these rows of samples; none named: all")
    parser.add_argument("--training", nargs="*", metavar="NAME", help="these rows of diffusion; none named: all")
    parser.add_argument("--autoencoders", nargs="*", metavar="NAME", help="these first stages; none named: all")
    parser.add_argument("--out", type=Path, default=RATES, help=f"JSON to add the rates to ({RATES})")
    arguments = parser.parse_args()
    everything = all(wanted is None for wanted in (arguments.samples, arguments.training, arguments.autoencoders))
    try:
        params = load()
        run = section(params, Run, "run")
        jobs: list[tuple[Table, str, list[str] | None, Callable[[str, Run], dict[str, float]]]] = [
            ("samples", "models/diffusion", arguments.samples, sampling_rate),
            ("training", "data/latents", arguments.training, training_rate),
            ("autoencoders", "data/prepared", arguments.autoencoders, first_stage_rate),
        ]
        here = environment()
        device = here["gpu"] if run.device == "cuda" else here["cpu"]
        machine = {"device": device, "torch": here["torch"], "precision": run.precision}
        rates = read_json(arguments.out) if arguments.out.is_file() else {}
        for kind, place, wanted, measure in jobs:
            if wanted is None and not everything:
                continue
            for name in made(ROWS[kind], place, wanted or []):
                measured = measure(name, run)
                rates.setdefault(kind, {})[key(params, kind, name)] = {"name": name, **machine, **measured}
                print(f"{kind} {name}: {measured['images_per_second']:g} images/s", flush=True)
                write_json(arguments.out, rates)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
