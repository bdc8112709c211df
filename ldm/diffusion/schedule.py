"""The forward process: how much of latent and noise is in the noisy latent at each step."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from ldm.diffusion import config as c


@dataclass(frozen=True)
class Schedule:
    """noisy = alpha[step] * latent + sigma[step] * noise, with alpha^2 + sigma^2 = 1; float32, computed in float64.

    sigma is never 0. alpha falls, and is 0 at the last step where the terminal SNR is zero; a regression has only that.
    """

    alpha: Float[Tensor, " T"]
    sigma: Float[Tensor, " T"]

    @classmethod
    def from_config(cls, config: c.Linear | c.Cosine | c.Regression) -> "Schedule":
        match config:
            case c.Regression():
                return cls(torch.zeros(1), torch.ones(1))
            case c.Linear():
                beta = _linear(config.steps, config.beta_start, config.beta_end)
            case c.Cosine():
                beta = _cosine(config.steps)
        alpha = (1 - beta).cumprod(0).sqrt()
        if config.zero_terminal_snr:
            alpha = _zero_at_the_end(alpha)
        return cls(alpha.float(), (1 - alpha.square()).sqrt().float())

    def __len__(self) -> int:
        return len(self.alpha)

    def to(self, device: torch.device) -> "Schedule":
        return Schedule(self.alpha.to(device), self.sigma.to(device))

    def at(self, step: Int[Tensor, " b"]) -> tuple[Float[Tensor, "b 1 1 1"], Float[Tensor, "b 1 1 1"]]:
        """alpha and sigma of each step, shaped to multiply images."""
        return self.alpha[step][:, None, None, None], self.sigma[step][:, None, None, None]


def _linear(steps: int, start: float, end: float) -> Float64[Tensor, " steps"]:
    return torch.linspace(math.sqrt(start), math.sqrt(end), steps, dtype=torch.float64).square()


def _cosine(steps: int) -> Float64[Tensor, " steps"]:
    """arXiv 2102.09672, eq. 17."""
    time = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    alpha_bar = ((time + 0.008) / 1.008 * math.pi / 2).cos().square()
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


def _zero_at_the_end(alpha: Float64[Tensor, " T"]) -> Float64[Tensor, " T"]:
    """Shifted and scaled: the first stays, the last becomes 0 (arXiv 2305.08891, algorithm 1)."""
    first, last = alpha[0].clone(), alpha[-1].clone()
    return (alpha - last) * (first / (first - last))
