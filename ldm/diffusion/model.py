"""A diffusion model: UNet, conditioner, schedule and latent scale, and how they are kept in a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ldm import conditioning
from ldm.config import check
from ldm.diffusion.config import Diffusion, Objective, Prediction
from ldm.diffusion.schedule import Schedule
from ldm.files import identity, read_json
from ldm.nn.condition import Condition
from ldm.nn.weights import load_into
from ldm.training.graphed import replayed
from ldm.unet.classifier import Classifier
from ldm.unet.model import UNet

ENCODED = ("masked", "grey")
"""Conditions that the autoencoder encoded: raw latents, brought to the scale of the latent beside them."""

Denoise = Callable[[Float[Tensor, "b c h w"], Int[Tensor, " b"]], Float[Tensor, "b c h w"]]
"""From a noisy latent and its step, the latent it is expected to come from."""


class LatentScale(nn.Module):
    """Raw latents (what the autoencoder speaks) to latents (what the UNet sees), channel by channel."""

    shift: Tensor
    factor: Tensor

    def __init__(self, shift: Float[Tensor, " c"], factor: Float[Tensor, " c"]) -> None:
        super().__init__()
        self.register_buffer("shift", shift[:, None, None].clone())
        self.register_buffer("factor", factor[:, None, None].clone())

    @classmethod
    def from_statistics(cls, scale: str | float, info: dict[str, Any]) -> "LatentScale":
        """`info` describes the latents: channel_mean and channel_std over the whole training split."""
        mean, std = (torch.tensor(info[key], dtype=torch.float32) for key in ("channel_mean", "channel_std"))
        match scale:
            case "channel":
                return cls(mean, 1 / std)
            case "std":
                whole = ((std.square() + mean.square()).mean() - mean.mean().square()).sqrt()
                return cls(torch.zeros_like(mean), torch.ones_like(mean) / whole)
            case _:
                return cls(torch.zeros_like(mean), torch.full_like(mean, float(scale)))

    def forward(self, raw: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return (raw - self.shift) * self.factor

    def inverse(self, latent: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return latent / self.factor + self.shift


class DiffusionModel(nn.Module):
    """All that was trained together. `info` is the latents.json of the latents it is trained on."""

    def __init__(self, config: Diffusion, info: dict[str, Any]) -> None:
        super().__init__()
        self.objective: Objective = config.objective
        self.half_precision = False
        self.schedule = Schedule.from_config(config.schedule)
        self.shape: tuple[int, int, int] = tuple(info["latent_shape"])
        if any(size % config.unet.factor for size in self.shape[1:]):
            raise ValueError(
                f"unet.channel_mult halves the size {len(config.unet.channel_mult) - 1} times, "
                f"but latent size {self.shape[1]} is not a multiple of {config.unet.factor}"
            )
        self.scale = LatentScale.from_statistics(config.scale, info)
        self.conditioner = conditioning.build(config.condition, info)
        if config.objective == "label":
            if not info["classes"]:
                raise ValueError("objective: label needs a data set with classes, and this one has none")
            size, classes = self.shape[1:], len(info["classes"])
            self.unet: UNet = Classifier(config.unet, latent_channels=self.shape[0], size=size, classes=classes)
        else:
            self.unet = UNet(
                config.unet,
                latent_channels=self.shape[0],
                condition_channels=self.conditioner.channels_width,
                token_width=self.conditioner.token_width,
            )

    def condition(
        self, rows: dict[str, Tensor], dropped: Bool[Tensor, "b 2"], size: tuple[int, int] | None = None
    ) -> Condition:
        """Both parts of the condition of `rows`, null where dropped; encoded pictures are scaled like the latent.

        Channels come at the latent's `size`, that of the training where it is not given.
        """
        encoded = {name: self.scale(rows[name]) for name in ENCODED if name in rows}
        return self.conditioner(rows | encoded, dropped, size or self.shape[1:])

    def denoiser(self, condition: Condition) -> Denoise:
        """The model under one condition as a function from noisy latent and step to denoised latent."""
        schedule, objective = self.schedule.to(self.scale.shift.device), self.objective
        assert objective != "label"

        def denoise(noisy: Float[Tensor, "b c h w"], step: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
            inputs = {"noisy": noisy, "step": step, "tokens": condition.tokens, "channels": condition.channels}
            prediction = replayed(self.unet, self._predict, noisy.device, inputs)
            return denoised(objective, noisy, prediction, *schedule.at(step))

        return denoise

    def in_half(self) -> "DiffusionModel":
        """Evaluate in bfloat16 from here on: for sampling alone, for the UNet's weights are no longer float32."""
        self.half_precision = True
        for layer in self.unet.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.to(torch.bfloat16)
        return self

    def _predict(
        self, noisy: Tensor, step: Tensor, tokens: Tensor | None = None, channels: Tensor | None = None
    ) -> Float[Tensor, "b c h w"]:
        with torch.autocast("cuda", torch.bfloat16, enabled=self.half_precision, cache_enabled=False):
            return self.unet(noisy, step, Condition(tokens=tokens, channels=channels)).float()


def target(objective: Prediction, latent: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What the UNet is trained to predict."""
    match objective:
        case "epsilon":
            return noise
        case "x0":
            return latent
        case "v":
            return alpha * noise - sigma * latent  # arXiv 2202.00512, appendix D


def denoised(objective: Prediction, noisy: Tensor, prediction: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The latent that a prediction stands for: `target` solved for it, with noisy = alpha latent + sigma noise."""
    match objective:
        case "epsilon":
            return (noisy - sigma * prediction) / alpha
        case "x0":
            return prediction
        case "v":
            return alpha * noisy - sigma * prediction


def noise_of(noisy: Tensor, latent: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The noise in `noisy` if `latent` is the latent in it."""
    return (noisy - alpha * latent) / sigma


def load(folder: Path, snapshot: int | None = None) -> tuple[DiffusionModel, dict[str, Any]]:
    """The averaged model that `train_diffusion` wrote to `folder`, on the CPU, frozen; and its config.json.

    `snapshot`: as it was after so many steps, one of train.snapshots. Raises ValueError of one line where there is no
    such snapshot, or the weights are not those of the model that config.json describes.
    """
    identity(folder)
    about = read_json(folder / "config.json")
    config = check(about["diffusion"], Diffusion, "diffusion", file=str(folder / "config.json"))
    if snapshot is not None and snapshot not in config.train.snapshots:
        kept = ", ".join(str(step) for step in config.train.snapshots) or "none"
        raise ValueError(f"{folder}: no snapshot of step {snapshot} (there is: {kept}); see train.snapshots")
    model = DiffusionModel(config, about["latents"])
    load_into(model, folder / weights_name(snapshot))
    return model.eval().requires_grad_(False), about


def weights_name(snapshot: int | None = None) -> str:
    """The file of averaged weights: those of the end, or after so many steps."""
    return "ema.safetensors" if snapshot is None else f"ema-{snapshot}.safetensors"
