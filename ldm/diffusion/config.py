"""A row of `diffusion` in params.yaml."""

from typing import Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from ldm import conditioning
from ldm.conditioning import Kind
from ldm.config import Section, nested
from ldm.training.config import Training
from ldm.unet.config import UNet

Objective = Literal["epsilon", "v"]


class Schedule(Section):
    """Betas linear in their square roots between two ends, as released."""

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
    condition: Kind
    conditioner: SerializeAsAny[Section]
    """The section of the conditioner that `condition` names."""
    condition_dropout: float = Field(ge=0, le=1)
    """How often a picture is trained on the null condition, which guidance needs."""
    unet: UNet
    objective: Objective
    """epsilon: predict the noise. v: predict alpha noise - sigma latent (arXiv 2202.00512), 
    steadier where there is little but noise."""
    schedule: Schedule
    scale: Literal["channel", "std"] | float
    """How raw latents become latents: each channel to mean 0 and std 1, all by one std, or by this factor."""
    train: DiffusionTraining

    @field_validator("conditioner", mode="before")
    @classmethod
    def _conditioner_of_this_kind(cls, values: Any, info: Any) -> Section:
        if "condition" not in info.data:
            raise ValueError("depends on condition, which is not valid")
        return nested(values, conditioning.config_class(info.data["condition"]))

    @model_validator(mode="after")
    def _scale_is_positive(self) -> "Diffusion":
        if isinstance(self.scale, float) and self.scale <= 0:
            raise ValueError(f"scale must be positive, found {self.scale:g}")
        return self
