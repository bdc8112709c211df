"""What is seen of a diffusion model while it trains: its loss on held-back latents, by step, and samples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from ldm.autoencoder.model import FirstStage
from ldm.conditioning import nothing_dropped
from ldm.data.batches import mixed
from ldm.data.latents import Latents
from ldm.data.pictures import grid, to_uint8
from ldm.data.randomness import generator
from ldm.diffusion.config import Diffusion
from ldm.diffusion.loss import diffusion_loss, raw_latent
from ldm.diffusion.model import DiffusionModel
from ldm.diffusion.preview import preview

MEASURED = 256
SHOWN = 16
BINS = 10


def seen(
    losses: Float[Tensor, " b"], norm: Float[Tensor, ""], step: Int[Tensor, " b"], steps: int
) -> Float[Tensor, " n"]:
    """What a training step adds to the curves, on its device, for `curves`."""
    inside = (step * BINS // steps)[:, None] == torch.arange(BINS, device=step.device)
    sums = torch.where(inside, losses.detach()[:, None], 0.0).sum(0)
    return torch.cat([losses.detach().mean()[None], norm[None], sums, inside.sum(0)])


def curves(window: Sequence[Float[Tensor, " n"]]) -> dict[str, float]:
    """Means over the training steps of `window`.

    loss; gradient_norm, before clipping; loss_t0 to loss_t9, the loss in each tenth of the schedule from the least
    noise to the most, without those in which no picture fell.
    """
    loss, norm, *bins = torch.stack(tuple(window)).sum(0).tolist()
    by_step = zip(bins[:BINS], bins[BINS:], strict=True)
    means = {f"loss_t{i}": total / count for i, (total, count) in enumerate(by_step) if count}
    return {"loss": loss / len(window), "gradient_norm": norm / len(window)} | means


@dataclass(frozen=True)
class Look:
    """What held-back latents show of a model."""

    scalars: dict[str, float]
    """val_loss, and of a classifier val_accuracy, where there are latents for validation."""
    pictures: dict[str, Image.Image]
    """Samples of a model that draws."""


class HeldBack:
    """The same validation latents with the same noise each time, so that what changes is the model."""

    def __init__(
        self, latents: Path, columns: Sequence[str], config: Diffusion, first_stage: FirstStage, device: torch.device
    ) -> None:
        """`columns`: those that the loss reads."""
        data = Latents(latents, "train")
        self._measured = 0
        if "validation" in data.info["counts"]:
            data = Latents(latents, "validation")
            self._measured = min(MEASURED, len(data))
        self._rows = data.read(mixed(min(max(SHOWN, self._measured), len(data)), len(data)), columns)
        self._config, self._first_stage, self._device = config, first_stage, device

    @torch.no_grad()
    def look(self, model: DiffusionModel) -> Look:
        scalars = {"val_loss": self._loss(model)} if self._measured else {}
        if model.objective != "label":
            return Look(scalars, {"samples": self._picture(model)})
        return Look(scalars | ({"val_accuracy": self._accuracy(model)} if self._measured else {}), {})

    def _loss(self, model: DiffusionModel) -> float:
        """The training's own loss, conditions dropped as often, at steps spread evenly over the schedule."""
        t, schedule = self._config.train, model.schedule.to(self._device)
        losses = [
            diffusion_loss(model, schedule, **part, norm=t.loss, snr_gamma=self._config.snr_gamma)
            for part in self._noised(model)
        ]
        return torch.cat(losses).mean().item()

    def _accuracy(self, model: DiffusionModel) -> float:
        """The share of these noisy latents whose class is the likeliest."""
        schedule, right = model.schedule.to(self._device), []
        for part in self._noised(model):
            alpha, sigma = schedule.at(part["step"])
            logits = model.unet(alpha * model.scale(part["raw"]) + sigma * part["noise"], part["step"])
            right.append(logits.argmax(1) == part["rows"]["label"])
        return torch.cat(right).float().mean().item()

    def _noised(self, model: DiffusionModel) -> Iterator[dict[str, Any]]:
        """Of what the loss takes, what is the same at each look, in batches."""
        t, schedule = self._config.train, model.schedule
        steps = torch.arange(self._measured, device=self._device) * len(schedule) // self._measured
        for start in range(0, self._measured, t.batch):
            stop = min(start + t.batch, self._measured)
            rows, draw = self._part(start, stop), generator(t.seed, "validation", start, device=self._device)
            normal = partial(torch.randn, (stop - start, *model.shape), generator=draw, device=self._device)
            raw = raw_latent(rows, normal() if "std" in rows else None)
            noise, chance = normal(), torch.rand((stop - start, 2), generator=draw, device=self._device)
            yield {"raw": raw, "rows": rows, "step": steps[start:stop], "noise": noise, "chance": chance}

    def _picture(self, model: DiffusionModel) -> Image.Image:
        """Samples under the first conditions."""
        rows, device = self._part(0, SHOWN), self._device
        count = len(rows["label"])
        draw = generator(self._config.train.seed, "preview", device=device)
        noise = torch.randn((count, *model.shape), generator=draw, device=device)
        condition = model.condition(rows, nothing_dropped(count, device))
        latent = preview(model.denoiser(condition), noise, model.schedule.to(device))
        return grid(to_uint8(self._first_stage.decode(model.scale.inverse(latent))).cpu(), columns=8)

    def _part(self, start: int, stop: int) -> dict[str, Tensor]:
        return {name: column[start:stop].to(self._device) for name, column in self._rows.items()}
