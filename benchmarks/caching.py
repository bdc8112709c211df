"""How fast are pictures cached, from parquet on disk to Arrow on disk, beside a peer that only encodes?

Ours is the stage `cache_latents` itself, on noise as varied as photographs, PNG in shards as `prepare` writes them. Its
clock starts when models are loaded and warm and no picture is read, and ends when the folder is whole and flushed; the
shards were written just before, so the disk may not be read. The peer is diffusers' encoder of the same architecture,
compiled, channels last, on one batch that is on the GPU already: it reads nothing, writes nothing, and does not measure
the health of its latents. Weights are random, of the same number.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

import ldm.nn.vision  # noqa: F401  (makes torchvision importable, which diffusers needs)
from benchmarks.measure import arguments, result, seconds, side_by_side, table, write
from ldm.autoencoder.cache import cache_latents, drawers, pool_for
from ldm.autoencoder.config import KL, VQ, Autoencoder, Latents
from ldm.autoencoder.drawing import Drawing
from ldm.autoencoder.encoder import Encoder
from ldm.autoencoder.health import health_of
from ldm.autoencoder.model import build, load
from ldm.autoencoder.pipeline import Pipeline
from ldm.config import Run, section
from ldm.config import load as load_params
from ldm.data.batches import ahead
from ldm.data.latents import write_latents
from ldm.data.pictures import encode, to_float, to_uint8
from ldm.data.randomness import generator
from ldm.data.shards import Example, Images, write_shards
from ldm.files import write_json, write_manifest
from ldm.interop import diffusers_config
from ldm.training.exact import placed, setup

NEEDS = ("diffusers",)
GOAL = 1.3
KINDS = ("kl-f8", "vq-f4")
SIDES = ("ours", "peer")
NONE = Path("none")
DIFFERENT = 512
"""Pictures that are made; more are these again, for their making takes longer than their encoding."""


def picture(size: int, index: int) -> bytes:
    """PNG of noise in octaves, the coarser the stronger, as in photographs; about as large as one of those."""
    draw, total = generator("benchmark", index), torch.zeros(3, size, size)
    side = 4
    while side <= size:
        noise = torch.randn((1, 3, side, side), generator=draw)
        total += F.interpolate(noise, size=(size, size), mode="bilinear")[0] / side**0.8
        side *= 2
    return encode(to_uint8(total / (2 * total.std())))


def prepare(folder: Path, count: int, size: int, workers: int) -> Path:
    """A prepared data set of one split."""
    folder.mkdir()
    made = list(ahead(partial(picture, size), range(min(count, DIFFERENT)), workers))
    write_shards(folder, "train", (Example(id=f"{i:07d}", image=made[i % len(made)]) for i in range(count)))
    none = {"classes": None, "box_classes": None, "label_map_classes": None}
    write_json(folder / "dataset.json", {"size": size, "splits": {"train": count}, **none})
    write_manifest(folder)
    return folder


def first_stage(kind: str, small: bool) -> KL | VQ:
    """A row of presets/paper.yaml; `small`: two narrow levels, to see that everything works."""
    config = section(load_params("presets/paper.yaml"), Autoencoder, f"autoencoders.{kind}").root
    assert isinstance(config, KL | VQ)
    if not small:
        return config
    narrow = {"channel_mult": [1, 1], "num_res_blocks": 1}
    return config.model_copy(update={"model": config.model.model_copy(update=narrow)})


def random_stage(folder: Path, config: KL | VQ) -> Path:
    """Its folder, with random weights."""
    folder.mkdir()
    torch.manual_seed(0)
    save_file(build(config).state_dict(), folder / "model.safetensors")
    write_json(folder / "config.json", config.model_dump())
    write_manifest(folder)
    return folder


def latents_row(batch: int) -> Latents:
    return Latents(
        dataset="d", autoencoder="a", vocabulary="none", clip="none", draws=1, flip=False, batch=batch, seed=1
    )


def peer(config: KL | VQ, device: torch.device, how: str) -> Callable[[Tensor], Tensor]:
    """diffusers' encoder with the convolution after it, in bfloat16 on a GPU."""
    import diffusers

    with torch.device("meta"):
        words = diffusers_config.first_stage(config, build(config))
    model: Any = getattr(diffusers, words["_class_name"]).from_config(words)
    half = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = model.to(device, half, memory_format=torch.channels_last).eval().requires_grad_(False)

    def run(image: Tensor) -> Tensor:
        return model.quant_conv(model.encoder(image))

    return run if how == "eager" else torch.compile(run, mode=None if how == "compiled" else how)


def cached(row: Latents, run: Run, folder: Path) -> float:
    """Seconds that the stage takes from where it is warm to its end."""
    out = folder / "latents"
    records = cache_latents(row, run, folder / "prepared", folder / "stage", NONE, NONE, out, folder / "state")
    next(records)
    started = time.perf_counter()
    for _ in records:
        pass
    taken = time.perf_counter() - started
    shutil.rmtree(out)
    return taken


@torch.no_grad()
def parts(row: Latents, run: Run, folder: Path, batches: int) -> dict[str, float]:
    """Seconds a picture of each part of the way alone."""
    device = setup(run)
    stage = placed(load(folder / "stage"), device)
    pipeline = Pipeline(row, Encoder(stage, row.batch, run), {}, device)
    images, health = Images(folder / "prepared", "train"), health_of(stage)
    drawing, pool = Drawing(row, images, True), pool_for(device, len(images), row.batch, images.info["size"])
    shapes = pipeline.shapes(images)
    places = [range(i * row.batch, (i + 1) * row.batch) for i in range(batches)]
    drawn = drawing(places[0])
    sent = pipeline.send(drawn)
    moments = pipeline.encoder(to_float(sent.inputs["pixels"]))
    columns = {name: values.cpu() for name, values in pipeline.encode(sent).columns.items()}
    health.add(moments)

    def decode() -> None:
        for _ in ahead(drawing, places, drawers(device), pool=pool):
            pass

    def written() -> None:
        with write_latents(folder / "written", "train", shapes) as append:
            for place in places:
                append([f"{i:07d}" for i in place], [0] * row.batch, [-1] * row.batch, columns)

    def each(call: Callable[[], Any]) -> Callable[[], None]:
        def repeated() -> None:
            for _ in places:
                call()

        return repeated

    ways = {
        "decoded alone": decode,
        "sent alone": each(lambda: pipeline.send(drawn)),
        "encoded alone": each(lambda: pipeline.encoder(to_float(sent.inputs["pixels"]))),
        "measured alone": each(lambda: health.add(moments)),
        "written alone": written,
    }
    taken = side_by_side(ways, device=device.type, warmup=1, repeats=3)
    return {name: median(repeats) / (batches * row.batch) for name, repeats in taken.items()}


def beside_the_peer(kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one kind of first stage, and print it."""
    device = torch.device(options.device)
    row, config = latents_row(options.batch), first_stage(kind, options.small)
    half = device.type == "cuda"
    run = Run(
        mode=options.mode, device=options.device, precision="bfloat16" if half else "float32",
        threads=torch.get_num_threads(), instructions="native",
    )  # fmt: skip
    image = torch.randn(options.batch, 3, options.size, options.size, device=device)
    image = image.to(torch.bfloat16 if half else torch.float32, memory_format=torch.channels_last)
    taken: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder / "prepared", options.pictures, options.size, drawers(device))
        random_stage(folder / "stage", config)
        other = peer(config, device, options.peer)
        for _ in range(options.rounds):
            setup(run.model_copy(update={"mode": "fast"}))  # the peer at its best
            with torch.no_grad():
                repeats = seconds(lambda: other(image), device=options.device)
            taken["peer"] += [one / options.batch for one in repeats]
            taken["ours"].append(cached(row, run, folder) / options.pictures)
        alone = parts(row, run, folder, max(1, min(options.pictures // options.batch, 16)))

    rates = {name: 1 / median(repeats) for name, repeats in taken.items()}
    ratio = rates["ours"] / rates["peer"]
    rows = [("ours, disk to disk", rates["ours"], ratio), ("diffusers, encoder alone", rates["peer"], 1.0)]
    rows += [(f"  {part}", 1 / each, 1 / each / rates["peer"]) for part, each in alone.items()]
    title = f"Caching {kind} at {options.size}, batch {options.batch}; goal {GOAL} times the peer"
    table(title, ["", "pictures/s", "ratio"], rows)
    return {
        "seconds": taken, "ratio": ratio, "goal": GOAL, "pictures_per_second": rates, "seconds_alone": alone,
    }  # fmt: skip


def main(argv: list[str] | None = None) -> dict[str, Any]:
    options = arguments(
        __doc__,
        argv,
        kind=("both", *KINDS),
        pictures=8192,
        size=256,
        batch=64,
        rounds=3,
        peer=("compiled", "max-autotune", "max-autotune-no-cudagraphs", "eager"),
        mode=("exact", "fast"),
        small=False,
    )
    kinds = KINDS if options.kind == "both" else (options.kind,)
    measured = {kind: beside_the_peer(kind, options) for kind in kinds}
    repeats = {f"{side}, {kind}": of["seconds"][side] for kind, of in measured.items() for side in SIDES}
    written = result(options, repeats, **measured)
    write(options.out, written)
    return written


if __name__ == "__main__":
    main()
