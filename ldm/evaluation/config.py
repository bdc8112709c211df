"""The sections of params.yaml under `evaluation`: references, autoencoders, samples."""

from typing import Literal

from pydantic import Field, field_validator

from ldm.config import Section

Split = Literal["train", "validation", "test", "held_out"]
Figure = Literal["fidelity", "paired", "caption_colour", "clip_score", "neighbours"]


class Reference(Section):
    """Feature statistics of real pictures, which samples and reconstructions are compared with."""

    dataset: str
    """A name in `datasets`."""
    split: Split
    features: str
    """A folder of data/weights, or none: convolutions that were never trained."""
    crop: int | None = Field(default=None, ge=1)
    """Pixels a side of the centre crop that is measured, where models are trained on crops; none: the whole picture."""
    batch: int = Field(ge=1)
    """Pictures a step; the last step is filled up, so that this number alone decides the floating-point sums."""


class AutoencoderEvaluation(Section):
    """How well an autoencoder gives pictures back, and whether its latents are healthy."""

    autoencoder: str
    """A name in `autoencoders`."""
    dataset: str
    """A name in `datasets`."""
    split: Split
    reference: str
    """A name in `evaluation.references`, measured with the same `features`."""
    features: str
    """A folder of data/weights, or none."""
    perceptual: str
    """A folder of data/weights with a perceptual trunk, or none: published LPIPS heads on an untrained one."""
    count: int = Field(ge=2)
    """Pictures measured, of the split in a fixed shuffled order; all of a split that has fewer."""
    batch: int = Field(ge=1)
    """Pictures a step, the last one filled up."""


class SampleEvaluation(Section):
    """Figures of one set of samples."""

    samples: str
    """A name in `samples`."""
    dataset: str
    """A name in `datasets`: the one that the samples' conditions came from."""
    reference: str
    """A name in `evaluation.references`, measured with the same `features`."""
    features: str
    """A folder of data/weights, or none."""
    perceptual: str
    """A folder of data/weights with a perceptual trunk, or none: published LPIPS heads on an untrained one."""
    clip: str
    """A folder of data/weights with a CLIP model, which clip_score measures with; or none."""
    figures: list[Figure] = Field(min_length=1)
    """fidelity: distances to the reference. paired: to each sample's original, beside bicubic enlargement where there
    is a low-resolution image, and in the hole where there is one. caption_colour: whether the captioned colours were
    painted (drawn scenes). clip_score: agreement with the captions. neighbours: how many samples are training pictures,
    or nearly."""
    batch: int = Field(ge=1)
    """Pictures a step, the last one filled up."""

    @field_validator("figures")
    @classmethod
    def _each_once(cls, figures: list[Figure]) -> list[Figure]:
        if len(set(figures)) < len(figures):
            raise ValueError("a figure is named twice")
        return figures
