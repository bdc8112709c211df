"""The evaluate_autoencoder stage: how well pictures come back, and the health of the latents in between."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from ldm.autoencoder.health import health_of
from ldm.autoencoder.model import FirstStage, Moments, fitting, load
from ldm.autoencoder.tiled import decode_tiled, encode_tiled
from ldm.config import Run
from ldm.data.batches import mixed
from ldm.data.pictures import low_resolution, psnr, to_float, to_uint8
from ldm.data.shards import Images
from ldm.evaluation.config import AutoencoderEvaluation
from ldm.evaluation.features import extractor
from ldm.evaluation.fidelity import InceptionScore
from ldm.evaluation.figure import Means
from ldm.evaluation.jackknife import of_replicates
from ldm.evaluation.reconstruction import PerceptualDistance, enlarge, ssim
from ldm.evaluation.shared import Measured, shared
from ldm.evaluation.statistics import RealStatistics, Statistics, check_comparable, check_side, padded, rounded
from ldm.files import identity, read_json, write_json
from ldm.progress import Progress
from ldm.training.exact import setup
from ldm.training.several import Processes

BICUBIC = 4
"""The baseline: bicubically this many times smaller, and back."""
TILE, OVERLAP = 512, 64
"""Pixels: larger pictures go through in tiles, which bound the memory of attention at 4 times the training size."""


@torch.no_grad()
def _reconstruct(
    autoencoder: FirstStage, pixels: UInt8[Tensor, "b 3 h w"], device: torch.device
) -> tuple[UInt8[Tensor, "b 3 h w"], Moments]:
    """`pixels` through the posterior's mean and back, as they would be saved."""
    tile, overlap = TILE // autoencoder.factor, OVERLAP // autoencoder.factor
    moments = encode_tiled(autoencoder, to_float(pixels.to(device)), tile, overlap)
    return to_uint8(decode_tiled(autoencoder, moments.mean, tile, overlap)).cpu(), moments


def _compared(
    distance: PerceptualDistance, pixels: UInt8[Tensor, "b 3 h w"], back: UInt8[Tensor, "b 3 h w"], batch: int
) -> dict[str, Tensor]:
    """Pictures against what came back of them, and under `bicubic_` against themselves reduced and enlarged again."""
    bicubic = torch.stack([enlarge(low_resolution(image, BICUBIC), like=image) for image in pixels])
    values = dict[str, Tensor]()
    for prefix, made in (("", back), ("bicubic_", bicubic)):
        perceived = distance(padded(made, batch), padded(pixels, batch))[: len(pixels)]
        found = {"psnr": psnr(made, pixels), "ssim": ssim(made, pixels), distance.key: perceived}
        values |= {prefix + key: value for key, value in found.items()}
    return values


def _sizes(autoencoder: Path, size: int) -> dict[str, Any]:
    """At which size pictures were measured, and the first stage was trained: null of one that was not trained here."""
    section = read_json(autoencoder / "config.json")
    return {"size": size, "training": {"dataset": section["dataset"], "size": section.get("size")}}


def _latent_figures(health: Mapping[str, Any]) -> dict[str, float]:
    """A figure for each channel, and the codebook's where there is one."""
    figures = {
        f"latent_{figure}_{channel}": health[figure][channel]
        for channel in range(len(health["mean"]))
        for figure in ("mean", "std", "noise", "kurtosis")
    }
    return figures | {key: health[key] for key in ("codebook_used", "perplexity") if health[key] is not None}


def evaluate_autoencoder(
    config: AutoencoderEvaluation,
    run: Run,
    images: Path,
    autoencoder: Path,
    reference: Path,
    features: Path,
    perceptual: Path,
    out: Path,
) -> Iterator[Progress]:
    """Measure the autoencoder in the folder `autoencoder` on prepared `images`; write {figures, intervals, about}.

    Pictures may be larger than those it was trained on. Reconstruction goes through the posterior's mean. Figures:
    Fréchet distance of the reconstructions to `reference` (rfid, or rfd_ and the features' name), with Inception their
    score (ris), psnr, ssim, lpips or its stand-in, the same of bicubic reduction and
    enlargement by 4 under `bicubic_`, and the health of the latents channel by channel; what a person should know of
    them stands in `about`. Processes share the batches, and the first writes.
    """
    device = setup(run)
    processes = Processes(device)
    processes.join()
    real = Images(images, config.split)
    model = load(autoencoder).to(device)
    for factor in (BICUBIC, model.factor):
        fitting(real.info["size"], factor, str(images))
    extract, distance = extractor(features, device), PerceptualDistance(perceptual, device)
    references = RealStatistics.load(reference, extract)
    side = check_comparable(reference, images, {config.split, "train"})
    check_side(reference, side, real.info["size"], real.info["size"])
    count = min(config.count, len(real))

    def measure(indices: Int64[Tensor, " b"]) -> Measured:
        pixels = real.batch(indices)
        back, moments = _reconstruct(model, padded(pixels, config.batch), device)
        features, logits = extract(back.to(device))
        found = {"mean": moments.mean.cpu(), "std": moments.std.cpu(), "features": features}
        found |= {} if logits is None else {"logits": logits}
        values = _compared(distance, pixels, back[: len(pixels)], config.batch)
        return {name: rows[: len(pixels)] for name, rows in found.items()} | values

    statistics, health, means = Statistics(), health_of(model), Means()
    score: InceptionScore | None = None
    for indices, measured in shared(mixed(count, len(real)).split(config.batch), measure, processes):
        values = dict(measured)
        statistics.add(values.pop("features"))
        if "logits" in values:
            score = score or InceptionScore()
            score.add(values.pop("logits"))
        health.add(Moments(values.pop("mean").to(device), values.pop("std").to(device)))
        means.add([real.ids[i] for i in indices.tolist()], values)
        yield Progress(done=statistics.count, total=count, unit="pictures")

    processes.leave()
    if not processes.first:
        return
    key, latents = f"r{extract.key('fd')}", health.report()
    figures = {key: references.distance(statistics), **references.beside(key)}
    figures |= means.figures() | _latent_figures(latents)
    intervals = {key: references.distance_interval(statistics), **means.intervals()}
    if score:
        key, parts = f"r{extract.key('is')}", score.scores()
        figures |= {key: parts.mean().item(), f"{key}_std": parts.std(correction=0).item()}
        intervals[key] = of_replicates(parts)
    about: dict[str, Any] = {"count": count, "split": config.split, "batch": config.batch, "bicubic": BICUBIC}
    about |= _sizes(autoencoder, real.info["size"])
    about["latent_warnings"] = latents["warnings"]
    about |= {"autoencoder": identity(autoencoder), **references.describe(count), **distance.about}
    write_json(
        out,
        {
            "figures": {key: rounded(value) for key, value in figures.items()},
            "intervals": {key: [rounded(end) for end in ends] for key, ends in intervals.items() if ends},
            "about": about,
        },
    )
