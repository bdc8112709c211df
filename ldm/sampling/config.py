"""A row of `samples` in params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from ldm.config import Section


class DDPM(Section):
    """Every step of the schedule, with the posterior's own noise (arXiv 2006.11239)."""

    kind: Literal["ddpm"]


class DDIM(Section):
    """Fewer steps (arXiv 2010.02502)."""

    kind: Literal["ddim"]
    num_steps: int = Field(ge=1)
    """Any number from 1 to the steps of the schedule."""
    eta: float = Field(ge=0, le=1)
    """Noise added at each step: 0 none, 1 as much as DDPM."""


class Samples(Section):
    model: str
    autoencoder: str
    latents: str
    """Where conditions and originals' ids come from."""
    split: Literal["train", "validation", "test", "held_out"]
    count: int = Field(ge=1)
    """Samples; they take the conditions of the split's pictures in a fixed shuffled order, again and again."""
    sampler: Annotated[DDPM | DDIM, Field(discriminator="kind")]
    guidance: float = Field(ge=0)
    """Scale of classifier-free guidance; 1 is none."""
    batch: int = Field(ge=1)
    seed: int
