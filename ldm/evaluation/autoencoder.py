"""The evaluate_autoencoder stage: how well pictures come back, and the health of the latents in between."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from ldm.autoencoder.model import FirstStage, Moments, fitting, load
from ldm.config import Run
from ldm.data.batches import mixed
from ldm.data.pictures import low_resolution, to_float, to_uint8
from ldm.data.shards import Images
from ldm.evaluation.config import AutoencoderEvaluation
from ldm.evaluation.features import extractor
from ldm.evaluation.reconstruction import PerceptualDistance, enlarge, psnr, ssim
from ldm.evaluation.statistics import RealStatistics, Statistics, padded, rounded
from ldm.files import identity, write_json
from ldm.progress import Progress
from ldm.training.exact import setup

BICUBIC = 4
"""The baseline: bicubically this many times smaller, and back."""


class LatentHealth:
    """Moments of the raw latents, channel by channel, in double precision."""

    def __init__(self) -> None:
        self._count = 0
        self._powers: Tensor | None = None
        self._variance: Tensor | None = None

    def add(self, moments: Moments) -> None:
        mean, variance = (x.double().cpu().transpose(0, 1).flatten(1) for x in (moments.mean, moments.std.square()))
        powers = torch.stack([(mean**power).sum(1) for power in (1, 2, 3, 4)])
        self._count += mean.shape[1]
        self._powers = powers if self._powers is None else self._powers + powers
        self._variance = variance.sum(1) if self._variance is None else self._variance + variance.sum(1)

    def figures(self) -> dict[str, float]:
        """Of each channel: mean and std of posterior samples, the noise in them, the kurtosis of posterior means.

        Kurtosis is 3 for a Gaussian and 0 for a channel that never varies.
        """
        assert self._powers is not None
        assert self._variance is not None
        first, second, third, fourth = self._powers / self._count
        spread = (second - first**2).clamp(min=0)
        central = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
        noise = self._variance / self._count
        figures: dict[str, float] = {}
        for channel, (m, v, c, n) in enumerate(zip(first, spread, central, noise, strict=True)):
            figures[f"latent_mean_{channel}"] = float(m)
            figures[f"latent_std_{channel}"] = float((v + n).sqrt())
            figures[f"latent_noise_{channel}"] = float(n.sqrt())
            figures[f"latent_kurtosis_{channel}"] = float(c / v**2) if v > 1e-12 else 0.0
        return figures


@torch.no_grad()
def _reconstruct(
    autoencoder: FirstStage, pixels: UInt8[Tensor, "b 3 h w"], device: torch.device
) -> tuple[UInt8[Tensor, "b 3 h w"], Moments]:
    """`pixels` through the posterior's mean and back, as they would be saved."""
    moments = autoencoder.encode(to_float(pixels.to(device)))
    return to_uint8(autoencoder.decode(moments.mean)).cpu(), moments


class Reconstruction:
    """Pictures against what came back of them, and under `bicubic_` against themselves reduced and enlarged again."""

    def __init__(self, distance: PerceptualDistance) -> None:
        self._distance, self._values = distance, dict[str, list[float]]()

    def add(self, pixels: UInt8[Tensor, "b 3 h w"], back: UInt8[Tensor, "b 3 h w"], batch: int) -> None:
        bicubic = torch.stack([enlarge(low_resolution(image, BICUBIC), like=image) for image in pixels])
        for prefix, made in (("", back), ("bicubic_", bicubic)):
            perceived = self._distance(padded(made, batch), padded(pixels, batch))[: len(pixels)]
            values = {"psnr": psnr(made, pixels), "ssim": ssim(made, pixels), self._distance.key: perceived}
            for key, value in values.items():
                self._values.setdefault(prefix + key, []).extend(value.tolist())

    def figures(self) -> dict[str, float]:
        return {key: sum(values) / len(values) for key, values in self._values.items()}


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
    """Measure the autoencoder in the folder `autoencoder` on prepared `images`; write {figures, about} to `out`.

    Reconstruction goes through the posterior's mean. Figures: Fréchet distance of the reconstructions to `reference`
    (rfid, or rfd_ and the features' name), psnr, ssim, lpips or its stand-in, the same of bicubic reduction and
    enlargement by 4 under `bicubic_`, and latent health.
    """
    device = setup(run)
    real = Images(images, config.split)
    model = load(autoencoder).to(device)
    for factor in (BICUBIC, model.factor):
        fitting(real.info["size"], factor, str(images))
    extract, distance = extractor(features, device), PerceptualDistance(perceptual, device)
    references = RealStatistics.load(reference, extract)
    statistics, health, reconstruction = Statistics(), LatentHealth(), Reconstruction(distance)
    count = min(config.count, len(real))
    measured = mixed(count, len(real))
    for start in range(0, count, config.batch):
        indices = measured[start : start + config.batch]
        pixels = real.batch(indices)
        back, moments = _reconstruct(model, padded(pixels, config.batch), device)
        statistics.add(extract(back.to(device))[0][: len(pixels)])
        health.add(Moments(moments.mean[: len(pixels)], moments.std[: len(pixels)]))
        reconstruction.add(pixels, back[: len(pixels)], config.batch)
        yield Progress(done=start + len(pixels), total=count, unit="pictures")
    key = f"r{extract.key('fd')}"
    figures = {key: references.distance(statistics), f"{key}_floor": references.floor}
    figures |= reconstruction.figures() | health.figures()
    about: dict[str, Any] = {"count": count, "split": config.split, "batch": config.batch, "bicubic": BICUBIC}
    about |= {"autoencoder": identity(autoencoder), **references.describe(count), **distance.about}
    write_json(out, {"figures": {k: rounded(v) for k, v in figures.items()}, "about": about})
