"""A small run folder in the formats of docs/architecture.md, its pictures drawn here."""

import random
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw
from safetensors.numpy import save_file

from ldm.config import load
from ldm.data.shards import Example, write_shards
from ldm.files import write_bytes, write_json, write_manifest
from ldm.training.history import History

PARAMS = Path(__file__).parents[2] / "presets/scenes.yaml"
HOSTILE = "<script>alert('caption')</script> & a \"quoted\" square"
COLOURS = {"red": "#c8332e", "green": "#3a8a3f", "blue": "#2f5fb3", "yellow": "#e0b92f"}
COUNT = 30
SPLITS = ("train", "validation", "test", "held_out")


def scene(seed: int) -> tuple[Image.Image, str]:
    draws = random.Random(seed)
    colour, shape = draws.choice(list(COLOURS)), draws.choice(["circle", "square"])
    image = Image.new("RGB", (32, 32), draws.choice(["#d9d4c7", "#39424e", "#8d9a8a"]))
    x, y, side = draws.randint(2, 12), draws.randint(2, 12), draws.randint(10, 18)
    pen = ImageDraw.Draw(image)
    (pen.ellipse if shape == "circle" else pen.rectangle)((x, y, x + side, y + side), fill=COLOURS[colour])
    return image, f"a {colour} {shape}"


def blurred(image: Image.Image, strength: int) -> Image.Image:
    noise = np.random.default_rng(strength).normal(0, 4 * strength, (32, 32, 3))
    soft = low(image).resize((32, 32), Image.Resampling.BICUBIC)
    return Image.fromarray(np.clip(np.asarray(soft) + noise, 0, 255).astype(np.uint8))


def low(image: Image.Image) -> Image.Image:
    return image.resize((8, 8), Image.Resampling.BOX)


def png(image: Image.Image) -> dict[str, Any]:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def grid(images: list[Image.Image], columns: int = 8) -> bytes:
    sheet = Image.new("RGB", (34 * columns, 34 * -(-len(images) // columns)))
    for i, image in enumerate(images):
        sheet.paste(image, (34 * (i % columns) + 1, 34 * (i // columns) + 1))
    return png(sheet)["bytes"]


def write_prepared(folder: Path) -> None:
    for part, split in enumerate(SPLITS):
        examples = []
        for i in range(COUNT):
            image, caption = scene(1000 * part + i)
            caption = HOSTILE if i == 0 else caption
            examples.append(Example(id=f"{split}-{i:03d}", image=png(image)["bytes"], label=i % 2, caption=caption))
        write_shards(folder, split, examples, classes=["circle", "square"])
    about = {
        "size": 32,
        "splits": dict.fromkeys(SPLITS, COUNT),
        "classes": ["circle", "square"],
        "label_map_classes": None,
        "skipped": [{"path": "broken.png", "reason": "cannot be opened"}],
        "licences": {"CC0": 4 * COUNT},
        "palette": {},
    }
    write_json(folder / "dataset.json", about)
    write_manifest(folder)


def write_model(folder: Path, columns: dict[str, float], picture: str | None) -> None:
    folder.mkdir(parents=True)
    history = History()
    draws = np.random.default_rng(len(folder.name))
    for step in range(10, 1010, 10):
        noise = 1 + 0.1 * draws.standard_normal()
        history.add(step, {name: scale * (0.05 + np.exp(-step / 200)) * noise for name, scale in columns.items()})
    history.write(folder / "history.csv")
    parameters = {"unet": 2_000_000, "conditioner": 50_000}
    write_json(folder / "config.json", {"latents": {"latent_shape": [3, 8, 8]}, "parameters": parameters})
    save_file({"weight": np.zeros((64, 3, 3, 3), np.float32)}, folder / "model.safetensors")
    if picture:
        write_bytes(folder / picture, grid([scene(i)[0] for i in range(16)]))
    write_manifest(folder)


def write_identity(folder: Path) -> None:
    write_json(folder / "config.json", {"kind": "identity"})
    write_manifest(folder)


def write_latents(folder: Path, shape: dict[str, list[int]], channels: int) -> None:
    about = {"kind": "kl", "shapes": shape, "channel_mean": [0.1] * channels, "channel_std": [1.25] * channels}
    write_json(folder / "latents.json", about)
    write_manifest(folder)


def write_samples(folder: Path, split: str, part: int, condition: dict[str, Any], strength: int) -> None:
    folder.mkdir(parents=True)
    rows, images = [], []
    for i in range(COUNT):
        original, caption = scene(1000 * part + i)
        images.append(blurred(original, strength))
        rows.append(
            {
                "id": f"{split}-{i:03d}",
                "seed": i,
                "image": png(images[-1]),
                "label": i % 2,
                "caption": (HOSTILE if i == 0 else caption) if condition["tokens"]["kind"] == "text" else None,
                "low_resolution": png(low(original)) if condition["channels"]["kind"] == "low_resolution" else None,
                "shown": png(low(original)) if condition["channels"]["kind"] == "low_resolution" else None,
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), folder / "samples-00000.parquet")
    write_bytes(folder / "sheet.png", grid(images))
    sampler = {"kind": "ddim", "num_steps": 20, "eta": 0.0}
    kinds = {part: section["kind"] for part, section in condition.items()}
    about = {"sampler": sampler, "guidance": 1.0, "seed": 7, "count": COUNT, "split": split, "condition": kinds}
    write_json(folder / "sampling.json", about)
    write_manifest(folder)


def write_metrics(root: Path) -> None:
    about = {
        "count": 256,
        "batch": 64,
        "features": "random_conv",
        "dimensions": 448,
        "reference_count": 306,
        "reference_split": "test",
        "floor": {"frechet_distance": 0.35, "of": "two halves of the pictures, every other one"},
        "note": "256 pictures for 448 feature dimensions: the covariance is singular",
        "perceptual": "lpips_random_trunk",
    }
    drawn = {"sampler": {"kind": "ddim", "num_steps": 20, "eta": 0.0}, "guidance": 3.0, "seed": 7, "split": "test"}
    coder = {"psnr": 27.31, "bicubic_psnr": 20.08, "ssim": 0.912, "bicubic_ssim": 0.7, "rfd_random_conv": 0.41}
    moments = {"mean": 0.02, "std": 1.31, "noise": 0.01, "kurtosis": 2.9}
    coder |= {f"latent_{name}_{channel}": value for name, value in moments.items() for channel in range(3)}
    intervals = {"psnr": [26.9, 27.7], "bicubic_psnr": [19.8, 20.3]}
    values = {"figures": coder, "intervals": intervals, "about": about | {"bicubic": 4}}
    write_json(root / "metrics/autoencoders/kl-f4.json", values)
    text = {"caption_colour": 0.8125, "fd_random_conv": 3.2, "fd_random_conv_floor": 0.35, "kid_random_conv": 0.004}
    text |= {"fd_random_conv_train": 0.51}
    colour = {"right": 208, "of": 256, "originals_right": 254, "originals": 256}
    for name in ("text-f4", "text-f4-held-out"):
        values = about | {"sampling": drawn, "caption_colour": colour}
        intervals = {"fd_random_conv": [2.9, 3.6], "caption_colour": [0.76, 0.855]}
        write_json(root / f"metrics/{name}.json", {"figures": text, "intervals": intervals, "about": values})
    for name, psnr in (("sr-f4", 25.7), ("sr-f1", 22.4)):
        figures = {"psnr": psnr, "bicubic_psnr": 24.5, "lpips_random_trunk": 0.218, "bicubic_lpips_random_trunk": 0.267}
        values = {"figures": figures, "intervals": {}, "about": about | {"sampling": drawn}}
        write_json(root / f"metrics/{name}.json", values)


def write_study(folder: Path) -> None:
    trials = {}
    for i in range(8):
        pairs = [("first", "original"), ("second", "original"), ("first", "second"), ("original", "mosaic")]
        trials[f"t{i}"] = dict(zip(("left", "right"), pairs[i % 4], strict=True), source=f"test-{i:03d}")
    write_json(folder / "key.json", {"study": "0" * 16, "trials": trials, "lists": [list(trials)] * 6})
    write_bytes(folder / "public" / "index.html", b"<!doctype html>")
    write_manifest(folder / "public")


def write_run(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(PARAMS, root / "params.yaml")
    params = load(PARAMS)
    write_prepared(root / "data/prepared/scenes")
    write_model(
        root / "models/autoencoders/kl-f4",
        {"loss": 1.0, "reconstruction": 0.4, "kl": 40.0, "lr": 1.0},
        "reconstructions.png",
    )
    write_identity(root / "models/autoencoders/pixels")
    write_latents(root / "data/latents/scenes-kl-f4", {"mean": [3, 8, 8]}, 3)
    write_latents(root / "data/latents/scenes-pixels", {"pixels": [3, 32, 32]}, 3)
    for name in params["diffusion"]:
        write_model(root / "models/diffusion" / name, {"loss": 1.0, "lr": 1.0}, "samples.png")
    for strength, (name, section) in enumerate(params["samples"].items()):
        condition = params["diffusion"][section["model"]]["condition"]
        part = SPLITS.index(section["split"])
        write_samples(root / "samples" / name, section["split"], part, condition, strength)
    write_metrics(root)
    write_study(root / "studies/super-resolution")
