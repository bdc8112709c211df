"""The exponential moving average of a model's weights."""

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class EMA(Generic[M]):
    """`model` is the averaged copy of `source`; `update` after each step moves it.

    Everything trained is averaged, a diffusion model's conditioner too, so that what was trained together is averaged
    together; the release averages the UNet alone and samples with the conditioner as it is.

    The step is 1 - min(decay, (1 + n) / (10 + n)) after n updates, as released.
    """

    def __init__(self, source: M, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(source).requires_grad_(False).eval()
        self._averaged = [p.detach() for p in self.model.parameters()]
        self._source = [p.detach() for p in source.parameters()]

    @torch.no_grad()
    def update(self, n: int) -> None:
        """`n` counts the updates made before this one."""
        weight = 1 - min(self.decay, (1 + n) / (10 + n)) if self.decay else 1.0
        torch._foreach_lerp_(self._averaged, self._source, weight)
