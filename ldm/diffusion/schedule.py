"""The forward process: how much of latent and noise is in the noisy latent at each step."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ldm.diffusion import config as c


@dataclass(frozen=True)
class Schedule:
    """noisy = alpha[step] * latent + sigma[step] * noise, with alpha^2 + sigma^2 = 1; float32, computed in float64."""

    alpha: Float[Tensor, " T"]
    sigma: Float[Tensor, " T"]

    @classmethod
    def from_config(cls, config: c.Schedule) -> "Schedule":
        ends = torch.tensor([config.beta_start, config.beta_end], dtype=torch.float64).sqrt()
        beta = torch.linspace(float(ends[0]), float(ends[1]), config.steps, dtype=torch.float64).square()
        alpha_bar = (1 - beta).cumprod(0)
        return cls(alpha_bar.sqrt().float(), (1 - alpha_bar).sqrt().float())

    def __len__(self) -> int:
        return len(self.alpha)

    def to(self, device: torch.device) -> "Schedule":
        return Schedule(self.alpha.to(device), self.sigma.to(device))

    def at(self, step: Int[Tensor, " b"]) -> tuple[Float[Tensor, "b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
        """alpha and sigma of each step, shaped to multiply images."""
        return self.alpha[step][:, None, None, None], self.sigma[step][:, None, None, None]
