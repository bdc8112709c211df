"""What every training section of params.yaml has in common."""

from typing import Literal

from pydantic import Field, model_validator

from ldm.config import Section


class Training(Section):
    """Steps, batch and optimiser. One step is one update; `lr` is absolute, never scaled by the batch."""

    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    """Pictures a step, over all processes."""
    lr: float = Field(gt=0)
    warmup: int = Field(ge=0)
    """Steps over which the rate rises linearly from zero."""
    decay: Literal["none", "cosine"] = "cosine"
    """cosine: constant for the first half, then down to 5 %. none: constant."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    weight_decay: float = Field(default=0.01, ge=0)
    """For diffusion (AdamW); first stages use none."""
    ema: float = Field(ge=0, lt=1)
    """Decay of the averaged weights; warmed up as min(ema, (1 + n) / (10 + n)). 0: no averaging."""
    seed: int
    save_every: int = Field(ge=1)
    """Steps between checkpoints."""
    picture_every: int = Field(ge=1)
    """Steps between pictures of the current state."""

    @model_validator(mode="after")
    def _warm_before_the_end(self) -> "Training":
        if self.warmup >= self.steps:
            raise ValueError(f"warmup {self.warmup} must be less than steps {self.steps}")
        return self
