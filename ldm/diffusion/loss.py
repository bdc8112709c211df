"""The loss of the paper, equation by equation."""

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ldm.conditioning import draw_dropped
from ldm.data.pictures import to_float
from ldm.diffusion.config import Prediction
from ldm.diffusion.model import DiffusionModel, target
from ldm.diffusion.schedule import Schedule

LATENT = ("pixels", "mean", "std")
"""Columns of which a raw latent is made: the pixels, or the mean, with the std where there is one."""


def raw_latent(rows: dict[str, Tensor], noise: Float[Tensor, "b c h w"] | None) -> Float[Tensor, "b c h w"]:
    """A sample of each cached posterior; of a codebook the latent before rounding, of the identity the pixels.

    Only where there is a posterior `noise` is read.
    """
    if "pixels" in rows:
        return to_float(rows["pixels"])
    if "std" not in rows:
        return rows["mean"]
    assert noise is not None
    return rows["mean"] + rows["std"] * noise


def diffusion_loss(
    model: DiffusionModel,
    schedule: Schedule,
    raw: Float[Tensor, "b c h w"],
    rows: dict[str, Tensor],
    step: Int[Tensor, " b"],
    noise: Float[Tensor, "b c h w"],
    chance: Float[Tensor, "b 2"],
    *,
    norm: str,
    snr_gamma: float | None,
) -> Float[Tensor, " b"]:
    """How far each prediction is from its target, at the `step` of each raw latent (paper, eq. 2 and 3).

    `norm` is l1 or l2, `snr_gamma` weighs the steps; `chance`, uniform in [0, 1), says which conditions are dropped.
    Of a classifier it is the cross-entropy, 0 for a picture without a label (-1).
    """
    latent = model.scale(raw)
    dropped = draw_dropped(model.conditioner, chance)

    alpha, sigma = schedule.at(step)
    noisy = alpha * latent + sigma * noise  # eq. 4 of arXiv 2006.11239
    prediction = model.unet(noisy, step, model.condition(rows, dropped))
    if model.objective == "label":
        return F.cross_entropy(prediction.float(), rows["label"], reduction="none", ignore_index=-1)
    difference = prediction - target(model.objective, latent, noise, alpha, sigma)
    loss = (difference.abs() if norm == "l1" else difference.square()).mean((1, 2, 3))
    return loss if snr_gamma is None else loss * min_snr_weight(model.objective, alpha, sigma, snr_gamma)[:, 0, 0, 0]


def columns_read(model: DiffusionModel, shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """Those of the cached columns that the loss reads; others, such as whole pictures, only sampling does."""
    needed = {*LATENT, *model.conditioner.reads}
    return [name for name in shapes if name in needed]


def min_snr_weight(objective: Prediction, alpha: Tensor, sigma: Tensor, gamma: float) -> Tensor:
    """What makes a squared error of the prediction weigh min(SNR, gamma) times that of the latent (arXiv 2303.09556).

    With SNR = alpha^2 / sigma^2 the latent's error is 1 (x0), 1 / SNR (epsilon) or 1 / (SNR + 1) (v) times the
    prediction's, so the weight is min(SNR, gamma), min(SNR, gamma) / SNR or min(SNR, gamma) / (SNR + 1). Where the
    SNR is zero v has weight 0: that last step is learned from the ones before it.
    """
    snr = (alpha / sigma).square()
    match objective:
        case "epsilon":
            return (gamma / snr).clamp(max=1)
        case "x0":
            return snr.clamp(max=gamma)
        case "v":
            return snr.clamp(max=gamma) / (snr + 1)
