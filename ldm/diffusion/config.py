"""A row of `diffusion` in params.yaml."""

from typing import Literal

from pydantic import Field, model_validator

from ldm.conditioning import Conditions
from ldm.config import Section
from ldm.training.config import Training
from ldm.unet.config import UNet

Objective = Literal["epsilon", "v"]


class Schedule(Section):
    """Betas linear in their square roots between two ends, as released."""

    kind: Literal["linear"]
    steps: int = Field(ge=1)
    """T, the steps of the forward process."""
    beta_start: float = Field(gt=0, lt=1)
    beta_end: float = Field(gt=0, lt=1)


class DiffusionTraining(Training):
    loss: Literal["l1", "l2"]


class Diffusion(Section):
    latents: str
    autoencoder: str
    """The one that made the latents; it decodes the pictures shown while training."""
    init_from: str
    """A diffusion model to start from instead of random weights, or none."""
    condition: Conditions
    unet: UNet
    objective: Objective
    """epsilon: predict the noise. v: predict alpha noise - sigma latent (arXiv 2202.00512), 
    steadier where there is little but noise."""
    schedule: Schedule
    scale: Literal["channel", "std"] | float
    """How raw latents become latents: each channel to mean 0 and std 1, all by one std, or by this factor."""
    train: DiffusionTraining

    @model_validator(mode="after")
    def _scale_is_positive(self) -> "Diffusion":
        if isinstance(self.scale, float) and self.scale <= 0:
            raise ValueError(f"scale must be positive, found {self.scale:g}")
        return self
