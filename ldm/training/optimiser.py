"""The optimisers and learning rates of the paper."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ldm.training.config import Training

Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]
"""All of a model's, or several groups of them as {"params": parameters}."""


def adam(parameters: Parameters, config: Training, betas: Sequence[float]) -> torch.optim.Optimizer:
    """Adam without weight decay, for first stages and their discriminators (as released)."""
    return torch.optim.Adam(parameters, lr=config.lr, betas=(betas[0], betas[1]), fused=True)


def adamw(parameters: Iterable[nn.Parameter], config: Training) -> torch.optim.Optimizer:
    """AdamW, for diffusion (as released)."""
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def rate(config: Training, step: int) -> float:
    """The learning rate of the update that comes after `step` updates."""
    if step < config.warmup:
        return config.lr * (config.warmup_from + (1 - config.warmup_from) * (step + 1) / config.warmup)
    first, last = config.falls
    if config.decay == "none" or step < first:
        return config.lr
    through = min(1.0, (step - first) / (last - first))
    end = 0.05 if config.decay_to is None else config.decay_to
    return config.lr * (end + (1 - end) * 0.5 * (1 + math.cos(math.pi * through)))


def update(optimiser: torch.optim.Optimizer, config: Training, step: int) -> Tensor:
    """One step along the gradients, clipped for each group apart; returns the first group's norm before that."""
    for group in optimiser.param_groups:
        group["lr"] = rate(config, step)
    norm, *_ = [nn.utils.clip_grad_norm_(group["params"], config.clip) for group in optimiser.param_groups]
    optimiser.step()
    return norm
