"""A run folder for every row of a preset: its pictures and figures are made up here, small, in the real formats."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldm.config import load
from ldm.files import write_bytes, write_json
from tests.report.made import write_identity, write_latents, write_model, write_study
from tests.report.rich import COUNT, write_data, write_made

FIDELITY = {"fd_random_conv": 3.2, "kid_random_conv": 0.004, "precision_random_conv": 0.7, "recall_random_conv": 0.5}
PAIRED = {"psnr": 24.4, "ssim": 0.69, "lpips_random_trunk": 0.1}


def write_preset(root: Path, preset: Path) -> None:
    """As if every stage of `preset` but the report had run in `root`."""
    root.mkdir(parents=True, exist_ok=True)
    write_bytes(root / "params.yaml", preset.read_bytes())
    params = load(preset)
    for name, section in params["datasets"].items():
        write_data(root / "data/prepared" / name, section["size"])
    for name, section in params["autoencoders"].items():
        folder = root / "models/autoencoders" / name
        if section["kind"] == "identity":
            write_identity(folder)
        else:
            write_model(folder, {"loss": 1.0}, "reconstructions.png")
    for name in params["latents"]:
        write_latents(root / "data/latents" / name, {"mean": [3, 8, 8]}, 3)
    for name, section in params["diffusion"].items():
        picture = None if section["objective"] == "label" else "samples.png"
        write_model(root / "models/diffusion" / name, {"loss": 1.0}, picture)
    told = {name: _sampling(row, params) for name, row in (params["samples"] | params["methods"]).items()}
    for name, about in told.items():
        size = params["datasets"][params["latents"][_latents(name, params)]["dataset"]]["size"]
        write_made(root / "samples" / name, about, about.get("size", [size])[-1], 1, about["method"] == "folder")
    for name, row in params["evaluation"]["samples"].items():
        low = "low_resolution" in params["latents"][_latents(row["samples"], params)]
        write_json(root / f"metrics/{name}.json", _metrics(row["figures"], told[row["samples"]], low))
    for name in params["evaluation"]["autoencoders"]:
        figures = {"rfd_random_conv": 0.4} | PAIRED
        write_json(root / f"metrics/autoencoders/{name}.json", {"figures": figures, "intervals": {}, "about": {}})
    for name in params["studies"]:
        write_study(root / "studies" / name)


def _latents(name: str, params: Mapping[str, Any]) -> str:
    return str((params["samples"] | params["methods"])[name]["latents"])


def _sampling(row: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """sampling.json of a row of `samples` or `methods`."""
    if "model" not in row:
        condition = row.get("told", {"tokens": "none", "channels": "low_resolution"})
        return {"method": row["kind"], "split": row["split"], "count": row["count"], "condition": condition}
    model = params["diffusion"][row["model"]]
    about = {k: v for k, v in row.items() if k not in ("autoencoder", "latents", "batch", "weights", "classifier")}
    about["sampler"] = {"num_steps": model["schedule"].get("steps")} | row["sampler"]
    about["condition"] = {part: kind["kind"] for part, kind in model["condition"].items()}
    led = {"classifier": row["classifier"]} if row["classifier"] != "none" else {}
    return about | led | {"method": "model"}


def _metrics(wanted: list[str], sampling: dict[str, Any], low: bool) -> dict[str, Any]:
    """What the stage evaluate gives for these `figures`; `low`: the rows have low-resolution pictures."""
    figures: dict[str, float] = {}
    about: dict[str, Any] = {"features": "random_conv", "count": COUNT, "sampling": sampling}
    if "fidelity" in wanted:
        figures |= FIDELITY | {"fd_random_conv_floor": 0.3, "fd_random_conv_train": 0.5}
    if "caption_colour" in wanted:
        figures["caption_colour"] = 0.8
        about["caption_colour"] = {"right": 8, "of": 10, "originals": 10, "originals_right": 10}
    if "paired" in wanted:
        figures |= PAIRED | ({f"bicubic_{key}": value for key, value in PAIRED.items()} if low else {})
    if "paired" in wanted and (sampling["condition"]["channels"] == "mask" or sampling.get("keep_known")):
        figures |= {"fd_random_conv_originals": 1.5, "psnr_hole": 15.2}
        bins = {"low": 0.4, "high": 0.5, "count": COUNT, "figures": {"psnr": 20.0}, "intervals": {}}
        about["area_bins"] = [bins]
    if "neighbours" in wanted:
        figures["memorised"] = 0.0
        ways = {way: {"closer_than_held_out": 0.5} for way in ("features", "pixels")}
        about["memorised"] = {"of": COUNT, "expected_at_most": 0.01, "train": COUNT, "held_out": COUNT} | ways
        about["neighbours"] = [
            {"seed": i, "id": f"test-{i:03d}", "train_id": f"train-{i:03d}", "distance": 1.0, "memorised": False}
            for i in range(COUNT)
        ]
    return {"figures": figures, "intervals": {}, "about": about}
