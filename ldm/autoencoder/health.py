"""The health of raw latents: what their channels look like, whether codes are used, and what a person should know."""

from typing import Any

import torch
from torch import Tensor

from ldm.autoencoder.model import IdentityAutoencoder, KLAutoencoder, Moments, VQAutoencoder
from ldm.autoencoder.quantiser import Codebook, use

DIGITS = 9
RATIO = 10
"""Between the widest and the narrowest channel, from which a warning is given."""
DEAD = 1000
"""Between the widest channel and one that carries nothing."""
HEAVY = 30.0
"""Kurtosis from which a warning is given; a Gaussian has 3."""
USED = 0.1
"""Least share of the codes, of those that could have occurred."""


class Health:
    """Sums over the raw latents of a data set, channel by channel, in double precision.

    >>> health = Health(3)
    >>> health.add(first_stage.encode(image))  # every batch
    >>> health.report()["warnings"]
    """

    def __init__(self, channels: int, codebook: Codebook | None = None) -> None:
        self._places = 0
        self._powers = torch.zeros(4, channels, dtype=torch.float64)
        self._noise = torch.zeros(channels, dtype=torch.float64)
        self._codebook = codebook
        self._codes = None if codebook is None else torch.zeros(len(codebook.codes), dtype=torch.int64)

    def add(self, moments: Moments) -> None:
        """Sums stay on the device of the first `moments`, so that nobody waits for a GPU."""
        mean, variance = (x.double().transpose(0, 1).flatten(1) for x in (moments.mean, moments.std.square()))
        self._powers, self._noise = self._powers.to(mean.device), self._noise.to(mean.device)
        self._places += mean.shape[1]
        self._powers += torch.stack([(mean**power).sum(1) for power in (1, 2, 3, 4)])
        self._noise += variance.sum(1)
        if self._codebook is not None and self._codes is not None:
            codes = self._codebook.nearest(moments.mean.to(self._codebook.codes.device)).flatten()
            self._codes = self._codes.to(codes.device).index_add_(0, codes, torch.ones_like(codes))

    def report(self) -> dict[str, Any]:
        """Lists with one number a channel, each rounded to nine digits.

        mean and std of posterior samples, noise (the part of std that is the posterior's), kurtosis of the posterior's
        means (3 for a Gaussian, 0 for a channel that never varies); codebook_used (a share) and perplexity, None
        without a codebook; warnings, one line each.
        """
        assert self._places, "no latents were added"
        first, second, third, fourth = self._powers.cpu() / self._places
        spread = (second - first**2).clamp_min(0)
        central = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
        noise = self._noise.cpu() / self._places
        std = (spread + noise).clamp_min(1e-12).sqrt()
        kurtosis = torch.where(spread > 1e-12, central / spread.clamp_min(1e-12).square(), 0.0)
        codes = None if self._codes is None else self._codes.cpu()
        used, perplexity = (None, None) if codes is None else use(codes)
        warnings = _of_channels(spread.sqrt(), noise.sqrt(), kurtosis)
        if codes is not None:
            warnings += _of_codes(codes, self._places)
        return {
            "mean": _rounded(first),
            "std": _rounded(std),
            "noise": _rounded(noise.sqrt()),
            "kurtosis": _rounded(kurtosis),
            "codebook_used": None if used is None else round(used, DIGITS),
            "perplexity": None if perplexity is None else round(perplexity, DIGITS),
            "warnings": warnings,
        }


def health_of(first_stage: KLAutoencoder | VQAutoencoder | IdentityAutoencoder) -> Health:
    """For the latents of `first_stage`; nothing is added yet."""
    codebook = first_stage.codebook if isinstance(first_stage, VQAutoencoder) else None
    return Health(first_stage.latent_channels, codebook)


def _rounded(values: Tensor) -> list[float]:
    return [round(value, DIGITS) for value in values.tolist()]


def _of_channels(spread: Tensor, noise: Tensor, kurtosis: Tensor) -> list[str]:
    """Warnings about standard deviations of the means, of the noise, and kurtosis; each has one value a channel."""
    widest, lines, alive = spread.max().item(), [], []
    for channel, (s, n, k) in enumerate(zip(spread.tolist(), noise.tolist(), kurtosis.tolist(), strict=True)):
        if s * DEAD <= widest:
            lines.append(f"channel {channel} is dead: its std is {s:.2g}, another's {widest:.2g}; it carries nothing")
            continue
        alive.append(s)
        if n >= s:
            lines.append(
                f"channel {channel} is mostly noise: the posterior's std is {n:.2g}, that of its mean {s:.2g};"
                " lower loss.kl_weight or train longer"
            )
        if k > HEAVY:
            lines.append(f"channel {channel} has heavy tails: kurtosis {k:.0f}, a Gaussian has 3")
    if alive and widest > RATIO * min(alive):
        lines.append(
            f"channel stds differ by a factor of {widest / min(alive):.0f}: use scale: channel in diffusion,"
            " so that the narrow ones are not drowned in noise"
        )
    return lines


def _of_codes(counts: Tensor, places: int) -> list[str]:
    used, possible = int((counts > 0).sum()), min(len(counts), places)
    if used >= USED * possible:
        return []
    return [f"{used} of {len(counts)} codes are used: set model.codebook.revive, or choose a smaller codebook"]
