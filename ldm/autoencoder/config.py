"""The first stages' sections of params.yaml: `autoencoders` and `latents`."""

from typing import Annotated, Literal

from pydantic import Field, RootModel, model_validator

from ldm.config import Section
from ldm.training.config import Training


class Architecture(Section):
    """Encoder and decoder (paper, appendix G). The downsampling factor is 2^(levels - 1)."""

    channels: int = Field(ge=4)
    channel_mult: list[int] = Field(min_length=1)
    """Width of each level as a multiple of `channels`."""
    num_res_blocks: int = Field(ge=1)
    """Residual blocks a level of the encoder; the decoder has one more."""
    attention_factors: list[int]
    """Downsampling factors of the levels with attention."""
    mid_attention: bool
    """Attention in the middle, at the lowest resolution."""
    latent_channels: int = Field(ge=1)

    @property
    def factor(self) -> int:
        return 2 ** (len(self.channel_mult) - 1)

    @model_validator(mode="after")
    def _fits(self) -> "Architecture":
        unused = set(self.attention_factors) - {2**level for level in range(len(self.channel_mult))}
        if unused:
            raise ValueError(f"attention_factors has {sorted(unused)}, but the levels' factors are 1 to {self.factor}")
        return self


class Loss(Section):
    """Weights of the terms (paper, eq. 25). The reconstruction is summed over a picture and averaged over the batch."""

    kl_weight: float = Field(ge=0)
    perceptual_weight: float = Field(ge=0)
    """Of the perceptual distance, where the row names perceptual weights."""
    l2_weight: float = Field(ge=0)
    """Of the squared error beside the absolute one; the release has 0."""
    adversarial_weight: float = Field(ge=0)
    """Multiplied with the adaptive weight. 0: no discriminator."""
    adversarial_start: int = Field(ge=0)
    """Step at which the discriminator joins."""
    discriminator_channels: int = Field(ge=4)
    discriminator_layers: int = Field(ge=1)


class AutoencoderTraining(Training):
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(min_length=2, max_length=2)
    """Adam's, of the autoencoder. The release has [0.5, 0.9], as its discriminator has here too."""
    flip: bool
    """Mirror each picture with probability one half, by (seed, step)."""


class KL(Section):
    """A first stage whose latent is a Gaussian kept near the standard one by a small Kullback-Leibler term."""

    kind: Literal["kl"]
    dataset: str
    perceptual: str
    """A folder of data/weights with a perceptual trunk, or none."""
    model: Architecture
    loss: Loss
    train: AutoencoderTraining

    @model_validator(mode="after")
    def _perceptual_weight_has_a_trunk(self) -> "KL":
        if self.loss.perceptual_weight and self.perceptual == "none":
            raise ValueError(
                "loss.perceptual_weight needs a trunk: name a folder of data/weights in perceptual, or set it to 0"
            )
        return self


class Identity(Section):
    """Factor 1: the latent is the picture."""

    kind: Literal["identity"]
    dataset: str
    perceptual: Literal["none"]


class Autoencoder(RootModel[Annotated[KL | Identity, Field(discriminator="kind")]]):
    """A row of `autoencoders`: what the row is stands in `root`."""


class Tokens(Section):
    """How captions become token ids."""

    length: int = Field(ge=3)
    """Tokens a caption, with its first and last mark; longer ones are cut."""
    vocabulary_size: int = Field(ge=32)
    """Of the WordPiece vocabulary trained on the captions, where no vocabulary file is named."""


class Latents(Section):
    """A row of `latents`: a data set as one first stage sees it, and all that its pictures can be conditioned on."""

    dataset: str
    autoencoder: str
    vocabulary: str
    """A folder of data/weights with a vocab.txt, or none: WordPiece is trained on the training captions."""
    tokens: Tokens
    low_resolution: int = Field(ge=1)
    """The picture is also kept this many times smaller (antialiased bicubic); 1: not kept."""
    draws: int = Field(ge=1)
    """How often each training picture is cached; with `flip`, mirrored or not by (seed, id, draw)."""
    flip: bool
    batch: int = Field(ge=1)
    seed: int
