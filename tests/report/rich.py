"""A run folder with something of everything that the report can show: every condition, other methods, sweeps, rates."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image, ImageDraw

from ldm.data.shards import Example, write_shards
from ldm.files import write_bytes, write_json, write_manifest
from ldm.report.rates import key
from tests.report.made import blurred, grid, low, png, scene, write_identity, write_latents, write_model

SIZES = {"small": 32, "large": 320}
COUNT = 12
HOW = ("split", "count", "sampler", "guidance", "guide", "classifier", "start", "keep_known", "size", "patches")
SAMPLER = {"kind": "ddim", "num_steps": 20, "eta": 0.0}


def model(tokens: str = "none", channels: str = "none") -> dict[str, Any]:
    condition = {"tokens": {"kind": tokens}, "channels": {"kind": channels}}
    return {"latents": "small", "condition": condition, "unet": {}, "train": {"steps": 400}, "schedule": {}}


def row(model: str, **changes: Any) -> dict[str, Any]:
    about = {"sampler": SAMPLER, "guidance": 1.0, "split": "test", "count": COUNT, "seed": 7} | changes
    return {"model": model, "autoencoder": "kl-f4", "latents": "small"} | about


def params() -> dict[str, Any]:
    samples = {
        "free": row("free"),
        "class-s100": row("class", snapshot=100),
        "class-s200": row("class", snapshot=200),
        "text": row("text", guidance=2.0),
        "super": row("super"),
        "super-l2": row("super-l2", sampler=SAMPLER | {"num_steps": 1}),
        "super-guided": row("super", guide={"kind": "low_resolution", "scale": 4.0}),
        "inpaint": row("inpaint", latents="large"),
        "grey": row("grey"),
        "map": row("map"),
        "boxes": row("boxes"),
        "told-hole": row("text-mask", latents="large"),
        "started": row("free", start={"strength": 0.5}, size=[64, 32], patches={"size": 32, "overlap": 8}),
        "guided": row("free", guide={"kind": "clip", "scale": 2.0}),
        "kept": row("free", latents="large", keep_known=True),
    }
    for guidance in (1.0, 2.0):
        for steps in (10, 20, 50):
            name = f"class-{steps}-g{guidance:g}"
            samples[name] = row("class", guidance=guidance, sampler=SAMPLER | {"num_steps": steps})
    samples["led"] = row("free", guide={"kind": "classifier", "scale": 3.0}, classifier="classes")
    references = {"small-test": {"dataset": "small"}, "large-test": {"dataset": "large"}}
    methods = {
        "bicubic": {"kind": "bicubic", "latents": "small", "split": "test", "count": COUNT, "folder": "data/raw/none"},
        "lama": {"kind": "folder", "latents": "large", "split": "test", "count": COUNT, "folder": "data/raw/lama"},
    }
    measured = {
        name: {"samples": name, "dataset": section["latents"], "reference": f"{section['latents']}-test"}
        for name, section in (samples | methods).items()
    }
    coder = {"kind": "kl", "dataset": "small", "model": {"channel_mult": [1, 2, 4], "latent_channels": 3}}
    coder |= {"loss": {}, "train": {"steps": 1000}}
    vq = json.loads(json.dumps(coder | {"kind": "vq"}))
    vq["model"]["codebook"] = {"size": 8192}
    coders = {
        "kl-f4": {"autoencoder": "kl-f4", "dataset": "small"},
        "kl-f4-10x": {"autoencoder": "kl-f4", "dataset": "large"},
        "vq-f4": {"autoencoder": "vq-f4", "dataset": "small"},
        "pixels": {"autoencoder": "pixels", "dataset": "small"},
    }
    return {
        "run": {"mode": "exact"},
        "datasets": {name: {"size": size} for name, size in SIZES.items()},
        "autoencoders": {"kl-f4": coder, "vq-f4": vq, "pixels": {"kind": "identity", "dataset": "small"}},
        "latents": {name: {"dataset": name, "autoencoder": "kl-f4"} for name in SIZES},
        "diffusion": {
            "free": model(),
            "class": model("label"),
            "classes": model() | {"objective": "label"},
            "text": model("text"),
            "super": model(channels="low_resolution"),
            "super-l2": model(channels="low_resolution") | {"schedule": {"kind": "regression"}, "objective": "x0"},
            "inpaint": model(channels="mask"),
            "grey": model(channels="grey"),
            "map": model(channels="label_map"),
            "boxes": model("layout"),
            "text-mask": model("text", "mask"),
        },
        "samples": samples,
        "methods": methods,
        "evaluation": {"references": references, "autoencoders": coders, "samples": measured},
        "studies": {},
    }


def picture(number: int, size: int) -> tuple[Image.Image, str]:
    image, caption = scene(number)
    return image.resize((size, size), Image.Resampling.BICUBIC), caption


def shown(kind: str, image: Image.Image) -> Image.Image | None:
    """What sampling was shown, as ldm.sampling.shown makes it."""
    if kind == "low_resolution":
        return low(image)
    if kind == "mask":
        holed = image.copy()
        ImageDraw.Draw(holed).rectangle((0, 0, image.width // 2, image.height // 2), fill=(128, 128, 128))
        return holed
    if kind == "grey":
        return image.convert("L").convert("RGB")
    return image.quantize(4).convert("RGB") if kind in ("label_map", "layout") else None


def write_data(folder: Path, size: int) -> None:
    for part, split in enumerate(("train", "test")):
        made = [picture(1000 * part + i, size) for i in range(COUNT)]
        examples = [
            Example(id=f"{split}-{i:03d}", image=png(image)["bytes"], label=i % 2, caption=caption)
            for i, (image, caption) in enumerate(made)
        ]
        write_shards(folder, split, examples, classes=["circle", "square"])
    about = {"size": size, "splits": {"train": COUNT, "test": COUNT}, "classes": ["circle", "square"]}
    write_json(folder / "dataset.json", about | {"licences": {"CC0": 2 * COUNT}, "skipped": []})
    write_manifest(folder)


def write_made(folder: Path, about: dict[str, Any], size: int, strength: int, foreign: bool) -> None:
    folder.mkdir(parents=True)
    condition = about["condition"]
    kind = "mask" if about.get("keep_known") else condition["channels"]
    kind = condition["tokens"] if kind == "none" else kind
    rows, images = [], []
    for i in range(COUNT):
        original, caption = picture(1000 + i, size)
        made = blurred(original.resize((32, 32)), 1 + strength).resize((size, size))
        given = None if foreign else shown(kind, original)
        images.append(made.resize((32, 32)))
        rows.append(
            {
                "id": f"test-{i:03d}",
                "seed": i,
                "image": png(made),
                "label": i % 2 if kind == "label" else None,
                "caption": caption if condition["tokens"] == "text" else None,
                "low_resolution": png(low(original)) if kind == "low_resolution" else None,
                "shown": png(given) if given else None,
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), folder / "samples-00000.parquet")
    write_bytes(folder / "sheet.png", grid(images))
    write_json(folder / "sampling.json", about)
    write_manifest(folder)


def write_figures(root: Path, name: str, about: dict[str, Any], order: int) -> None:
    sampler = about.get("sampler", {"num_steps": 1})
    distance = 4 + 30 / sampler["num_steps"] + abs(about.get("guidance", 1) - 1.5) + 0.1 * order
    figures = {"fd_squeezenet": distance, "fd_squeezenet_floor": 1.25, "fd_squeezenet_train": 1.5}
    figures |= {"precision_squeezenet": 0.71, "recall_squeezenet": 0.48}
    intervals = {"fd_squeezenet": [distance - 0.4, distance + 0.6]}
    measured: dict[str, Any] = {"features": "squeezenet", "features_sha256": "ab" * 32, "count": 256}
    measured |= {"reference_split": "test", "sampling": about}
    kinds = about["condition"]
    if kinds["channels"] != "none":
        figures |= {"psnr": 24.4, "ssim": 0.69, "lpips": 0.137}
        intervals |= {"psnr": [24.1, 24.7]}
    if kinds["channels"] == "mask":
        bins = [(0.1, 0.2, 5.1), (0.4, 0.5, 9.39)]
        figures |= {"fd_squeezenet_originals": 1.5, "fd_squeezenet_originals_floor": 6.25, "psnr_hole": 15.2}
        measured["beside"] = {"fd_squeezenet_originals": {"floor": {"count": 128, "against": 128}}}
        measured["area_bins"] = [
            {
                "low": low,
                "high": high,
                "count": 40,
                "figures": {
                    "fd_squeezenet": 2 * distance,
                    "fd_squeezenet_originals": distance,
                    "fd_squeezenet_originals_floor": 17.5,
                    "lpips": 0.246,
                },
                "intervals": {"lpips": [0.23, 0.26]},
            }
            for low, high, distance in bins
        ]
    if name == "free":
        figures["memorised"], intervals["memorised"] = 0.25, [0.09, 0.5]
        closer = {"features": {"closer_than_held_out": 0.235}, "pixels": {"closer_than_held_out": 0.964}}
        measured["memorised"] = {"of": COUNT, "expected_at_most": 0.01, "train": COUNT, "held_out": 12} | closer
        measured["neighbours"] = [
            {"seed": i, "id": f"test-{i:03d}", "train_id": f"train-{i:03d}", "distance": 0.1 * i, "memorised": i < 3}
            for i in range(COUNT)
        ]
    values = {"figures": figures, "intervals": intervals, "about": measured}
    write_json(root / f"metrics/{name}.json", values)


def write_rich(root: Path) -> None:
    chosen = params()
    larger = {"inpaint-larger": row("inpaint", latents="large", size=[640, 640])}  # timed, and not drawn
    written = chosen | {"samples": chosen["samples"] | larger}
    write_bytes(root / "params.yaml", yaml.safe_dump(written, sort_keys=False).encode())
    for name, size in SIZES.items():
        write_data(root / "data/prepared" / name, size)
        write_latents(root / "data/latents" / name, {"mean": [3, 8, 8]}, 3)
    for name in ("kl-f4", "vq-f4"):
        write_model(root / "models/autoencoders" / name, {"loss": 1.0}, "reconstructions.png")
    write_identity(root / "models/autoencoders/pixels")
    for name in chosen["diffusion"]:
        picture = None if name == "classes" else "samples.png"
        write_model(root / "models/diffusion" / name, {"loss": 1.0}, picture)
    for order, (name, section) in enumerate((chosen["samples"] | chosen["methods"]).items()):
        about = {key: section[key] for key in HOW if key in section}
        if "model" in section:
            condition = chosen["diffusion"][section["model"]]["condition"]
            about["condition"] = {part: kind["kind"] for part, kind in condition.items()}
            about["method"] = "model"
        else:
            told = "low_resolution" if section["kind"] == "bicubic" else "mask"
            about |= {"condition": {"tokens": "none", "channels": told}, "method": section["kind"]}
        foreign = about["method"] == "folder"
        write_made(root / "samples" / name, about, SIZES[section["latents"]], order % 5, foreign)
        write_figures(root, name, about, order)
    for order, name in enumerate(chosen["evaluation"]["autoencoders"]):
        figures = {"rfd_squeezenet": 0.27 + order, "psnr": 27.53 - order, "ssim": 0.82, "lpips": 0.55}
        about = {"features": "squeezenet", "features_sha256": "ab" * 32, "count": 200}
        values = {"figures": figures, "intervals": {"psnr": [27.1 - order, 27.9 - order]}, "about": about}
        write_json(root / f"metrics/autoencoders/{name}.json", values)
    write_rates(root, written, list(written["samples"]))


def write_rates(root: Path, params: dict[str, Any], samples: list[str]) -> None:
    """Of `samples`, three trainings and a first stage, with these parameters; and of a row no longer there."""
    machine = {"device": "NVIDIA H100", "torch": "2.13.0", "precision": "bfloat16"}
    rates: dict[str, Any] = {"samples": {"0" * 16: {"name": "gone", **machine, "images_per_second": 1.0}}}
    for name in samples:
        speed = 600 / params["samples"][name]["sampler"]["num_steps"]
        rate = {"name": name, **machine, "images_per_second": speed, "batch": 64, "num_steps": 20}
        rates["samples"][key(params, "samples", name)] = rate
    rates["training"] = {
        key(params, "training", name): {"name": name, **machine, "images_per_second": 310.0, "batch": 32, "hours": 0.21}
        for name in ("class", "inpaint", "map")
    }
    first_stage = {"name": "kl-f4", **machine, "images_per_second": 150.0, "batch": 16, "hours": 0.03}
    rates["autoencoders"] = {key(params, "autoencoders", "kl-f4"): first_stage}
    write_json(root / "benchmarks/results/rates.json", rates)
