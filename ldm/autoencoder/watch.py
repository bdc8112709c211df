"""How a first stage's training is judged: held-back pictures, a discriminator that wins, and when to stop."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ldm.autoencoder.health import health_of
from ldm.autoencoder.model import KLAutoencoder, VQAutoencoder
from ldm.data.batches import mixed
from ldm.data.pictures import grid, psnr, to_float, to_uint8
from ldm.data.shards import Images

Rows = Sequence[Mapping[str, int | float]]
"""Of a history: step and scalars, each the mean since the row before."""
MEASURED = 64
SHOWN = 8
ROWS = 5
"""Rows of history that a judgement looks at, each the mean over some steps."""
NOTHING_TO_LEARN = 0.05
"""A discriminator's loss below which it tells every patch; guessing gives 1 (hinge) or 0.69 (vanilla)."""
CLAMP = 0.99e4
RISE = 1.1
"""Of the reconstruction's error between neighbouring windows of rows."""
SPOILT = 1.25
"""Of the reconstruction's error above its best; what a discriminator costs when it joins stays well below."""
SETTLED = 0.1
"""dB of PSNR over the last fifth of the steps."""


@dataclass(frozen=True)
class Look:
    """What held-back pictures show of a model."""

    scalars: dict[str, float]
    """val_psnr in dB, and val_rec, the reconstruction's error as the loss has it."""
    picture: Image.Image
    """Originals above reconstructions."""
    health: dict[str, Any]


class HeldBack:
    """The same up to 64 validation pictures each time; of the training split where there is no validation split."""

    def __init__(self, images: Path, batch: int, device: torch.device) -> None:
        data = Images(images, "train")
        self.split = "validation" if "validation" in data.info["splits"] else "train"
        if self.split != "train":
            data = Images(images, self.split)
        self._pixels = data.batch(mixed(min(MEASURED, len(data)), len(data)))
        self._batch, self._device = batch, device

    @torch.no_grad()
    def look(
        self,
        model: KLAutoencoder | VQAutoencoder,
        error: Callable[[Tensor, Tensor], Tensor],
        reduced: Callable[[Tensor], Tensor],
    ) -> Look:
        """Reconstruct from the posterior's mean; `reduced(error(image, reconstruction))` is what a batch's error is."""
        health = health_of(model)
        ratios, errors, shown = [], 0.0, []
        for pixels in self._pixels.split(self._batch):
            image = to_float(pixels.to(self._device))
            moments = model.encode(image)
            reconstruction = model.decode(moments.mean)
            health.add(moments)
            errors += len(pixels) * reduced(error(image, reconstruction)).item()
            back = to_uint8(reconstruction).cpu()
            ratios.append(psnr(pixels, back))
            shown.append(back)
        scalars = {"val_psnr": torch.cat(ratios).mean().item(), "val_rec": errors / len(self._pixels)}
        pairs = torch.cat([self._pixels[:SHOWN], torch.cat(shown)[:SHOWN]])
        return Look(scalars, grid(pairs, columns=len(pairs) // 2), health.report())


def losing(rows: Rows, joined: int) -> str | None:
    """Why the first stage loses against a discriminator that joined at step `joined`; None where it does not.

    `rows` are those of the history so far. It loses where the discriminator has had nothing to learn for some rows
    while its gradients are too small for any weight, or the reconstruction gets worse.
    """
    against = [row for row in rows if row["step"] > joined]
    last, before = against[-ROWS:], against[-2 * ROWS : -ROWS]
    if len(before) < ROWS or any(row["discriminator"] > NOTHING_TO_LEARN for row in last):
        return None
    worse = sum(row["reconstruction"] for row in last) / sum(row["reconstruction"] for row in before)
    if all(row["adaptive_weight"] >= CLAMP for row in last):
        sign = "the adaptive weight is at its limit"
    elif worse > RISE:
        sign = f"the reconstruction's error rose by {100 * (worse - 1):.0f} %"
    else:
        return None
    return (
        f"step {last[-1]['step']:.0f}: the discriminator wins: it tells every patch, and {sign};"
        " lower loss.adversarial_weight, let it join later (loss.adversarial_start) or make it smaller"
    )


def worse(rows: Rows) -> str | None:
    """How far the reconstruction has gone from its best; None where it has not."""
    errors = [row["reconstruction"] for row in rows]
    if len(errors) < 2 * ROWS:
        return None
    best = min(sum(errors[start : start + ROWS]) for start in range(0, len(errors) - 2 * ROWS + 1, ROWS))
    ratio = sum(errors[-ROWS:]) / best
    if ratio <= SPOILT:
        return None
    return (
        f"step {rows[-1]['step']:.0f}: the reconstruction's error is {100 * (ratio - 1):.0f} % above its best so far;"
        " lower train.lr, or loss.adversarial_weight where it rose since the discriminator joined"
    )


def news(rows: Rows, joined: int) -> list[str]:
    """What `losing` and `worse` say and did not say one row before: each once, not again and again."""
    said = [(losing(rows, joined), losing(rows[:-1], joined)), (worse(rows), worse(rows[:-1]))]
    return [now for now, before in said if now and not before]


def verdict(rows: Rows, steps: int, split: str) -> str:
    """Whether `steps` were enough, by how val_psnr changed over their last fifth."""
    seen = [(row["step"], row["val_psnr"]) for row in rows if "val_psnr" in row]
    earlier = [psnr for step, psnr in seen if step <= 0.8 * steps]
    if not earlier:
        return f"{split} PSNR was measured only at the end: lower train.picture_every to learn when to stop"
    gain = seen[-1][1] - earlier[-1]
    change = f"{split} PSNR {'rose' if gain >= 0 else 'fell'} by {abs(gain):.2f} dB in the last fifth of the steps"
    if gain > SETTLED:
        return f"{change}: train longer"
    if gain >= -SETTLED:
        return f"{change}: more steps bring little"
    return f"{change}: fewer steps reconstruct better, unless a discriminator trades error for sharpness here"
