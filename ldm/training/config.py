"""What every training section of params.yaml has in common."""

from typing import Literal

from pydantic import Field, model_validator

from ldm.config import Section


class Training(Section):
    """Steps, batch and optimiser. One step is one update; `lr` is absolute, never scaled by the batch."""

    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    """Pictures a step, over all processes."""
    micro_batches: int = Field(default=1, ge=1, exclude_if=lambda count: count == 1)
    """Parts of a batch that go through the model one by one, and whose gradients are added up: less memory, and what
    several processes share. Left out of a model's config.json where it is 1."""
    lr: float = Field(gt=0)
    """The largest rate."""
    warmup: int = Field(ge=0)
    """Steps over which the rate rises linearly to `lr`."""
    warmup_from: float = Field(default=0.0, ge=0, lt=1)
    """Where it rises from, as a part of `lr`."""
    decay: Literal["none", "cosine"] = "cosine"
    """cosine: stays at `lr` until `decay_from`, then falls along half a cosine to `decay_to`. none: stays."""
    decay_from: int | None = Field(default=None, ge=0)
    """Step at which the rate begins to fall. Absent: half of `steps`."""
    decay_until: int | None = Field(default=None, ge=1)
    """Step from which it stays where it has fallen to. Absent: `steps`."""
    decay_to: float | None = Field(default=None, ge=0, le=1)
    """What it falls to, as a part of `lr`. Absent: .05."""
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
    """Steps between looks at the current state: pictures, and figures of held-back data."""

    @model_validator(mode="after")
    def _batch_in_equal_parts(self) -> "Training":
        if self.batch % self.micro_batches:
            raise ValueError(f"batch {self.batch} is not a multiple of micro_batches {self.micro_batches}")
        return self

    @model_validator(mode="after")
    def _warm_before_the_end(self) -> "Training":
        if self.warmup >= self.steps:
            raise ValueError(f"warmup {self.warmup} must be less than steps {self.steps}")
        return self

    @model_validator(mode="after")
    def _falls_after_it_rose(self) -> "Training":
        given = [key for key in ("decay_from", "decay_until", "decay_to") if getattr(self, key) is not None]
        if self.decay == "none" and given:
            raise ValueError(f"{given[0]} is for decay: cosine; say so, or leave it out")
        first, last = self.falls
        if self.decay == "cosine" and given and not self.warmup <= first < last:
            raise ValueError(
                f"the rate rises until warmup {self.warmup} and falls from {first} to {last}: these must come in order;"
                " give decay_from and decay_until"
            )
        return self

    @property
    def falls(self) -> tuple[int, int]:
        """The steps at which a cosine begins and ends."""
        first = self.steps // 2 if self.decay_from is None else self.decay_from
        return first, self.steps if self.decay_until is None else self.decay_until
