"""The evaluate_autoencoder stage: how well pictures come back, and the health of the latents in between."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
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
from ldm.evaluation.statistics import RealStatistics, Statistics, check_comparable, check_side, padded, rounded
from ldm.files import identity, read_json, write_json
from ldm.progress import Progress
from ldm.training.exact import setup

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


class Reconstruction:
    """Pictures against what came back of them, and under `bicubic_` against themselves reduced and enlarged again."""

    def __init__(self, distance: PerceptualDistance) -> None:
        self._distance, self.means = distance, Means()

    def add(
        self, ids: Sequence[str], pixels: UInt8[Tensor, "b 3 h w"], back: UInt8[Tensor, "b 3 h w"], batch: int
    ) -> None:
        bicubic = torch.stack([enlarge(low_resolution(image, BICUBIC), like=image) for image in pixels])
        for prefix, made in (("", back), ("bicubic_", bicubic)):
            perceived = self._distance(padded(made, batch), padded(pixels, batch))[: len(pixels)]
            values = {"psnr": psnr(made, pixels), "ssim": ssim(made, pixels), self._distance.key: perceived}
            self.means.add(ids, {prefix + key: value for key, value in values.items()})


def _sizes(config: AutoencoderEvaluation, autoencoder: Path, size: int) -> dict[str, Any]:
    """At which size pictures were measured, and the first stage was trained: null where only its data set is known."""
    section = read_json(autoencoder / "config.json")
    crop = section.get("train", {}).get("crop")
    trained = crop or (size if section["dataset"] == config.dataset else None)
    return {"size": size, "training": {"dataset": section["dataset"], "size": trained}}


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
    them stands in `about`.
    """
    device = setup(run)
    real = Images(images, config.split)
    model = load(autoencoder).to(device)
    for factor in (BICUBIC, model.factor):
        fitting(real.info["size"], factor, str(images))
    extract, distance = extractor(features, device), PerceptualDistance(perceptual, device)
    references = RealStatistics.load(reference, extract)
    side = check_comparable(reference, images, {config.split, "train"})
    check_side(reference, side, real.info["size"], real.info["size"])
    statistics, health, reconstruction = Statistics(), health_of(model), Reconstruction(distance)
    score: InceptionScore | None = None
    count = min(config.count, len(real))
    measured = mixed(count, len(real))
    for start in range(0, count, config.batch):
        indices = measured[start : start + config.batch]
        pixels = real.batch(indices)
        back, moments = _reconstruct(model, padded(pixels, config.batch), device)
        found, logits = extract(back.to(device))
        statistics.add(found[: len(pixels)])
        if logits is not None:
            score = score or InceptionScore()
            score.add(logits[: len(pixels)])
        health.add(Moments(moments.mean[: len(pixels)], moments.std[: len(pixels)]))
        reconstruction.add([real.ids[i] for i in indices.tolist()], pixels, back[: len(pixels)], config.batch)
        yield Progress(done=start + len(pixels), total=count, unit="pictures")
    key, latents = f"r{extract.key('fd')}", health.report()
    figures = {key: references.distance(statistics), **references.beside(key)}
    figures |= reconstruction.means.figures() | _latent_figures(latents)
    intervals = {key: references.distance_interval(statistics), **reconstruction.means.intervals()}
    if score:
        key, parts = f"r{extract.key('is')}", score.scores()
        figures |= {key: parts.mean().item(), f"{key}_std": parts.std(correction=0).item()}
        intervals[key] = of_replicates(parts)
    about: dict[str, Any] = {"count": count, "split": config.split, "batch": config.batch, "bicubic": BICUBIC}
    about |= _sizes(config, autoencoder, real.info["size"])
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
