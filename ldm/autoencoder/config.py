"""The first stages' sections of params.yaml: `autoencoders` and `latents`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, RootModel, model_validator

from ldm.config import Section, check
from ldm.files import read_json
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
    norm_groups: int | None = Field(default=None, ge=1)
    """Groups of every norm, as diffusers must have them; null: up to 32, of at least four channels each."""

    @property
    def factor(self) -> int:
        return 2 ** (len(self.channel_mult) - 1)

    @model_validator(mode="after")
    def _fits(self) -> "Architecture":
        unused = set(self.attention_factors) - {2**level for level in range(len(self.channel_mult))}
        if unused:
            raise ValueError(f"attention_factors has {sorted(unused)}, but the levels' factors are 1 to {self.factor}")
        return self


class Codes(Section):
    """The codes that the latent's places are rounded to. Each is as wide as the latent has channels."""

    size: int = Field(ge=2)
    beta: float = Field(default=0.25, ge=0)
    """Weight of the commitment, which draws the latent to its codes."""
    revive: int | None = Field(default=None, ge=1)
    """Steps without use after which a code is moved onto a latent of the current batch; null: never, as released."""


class QuantisedArchitecture(Architecture):
    """Encoder, codebook and decoder."""

    codebook: Codes


class Loss(Section):
    """Weights of the terms (paper, eq. 25)."""

    perceptual_weight: float = Field(ge=0)
    """Of the perceptual distance, where the row names perceptual weights."""
    l2_weight: float = Field(ge=0)
    """Of the squared error beside the absolute one; the release has 0."""
    learn_logvar: bool = False
    """Learn the variance that the reconstruction is divided by. The release fixes its logarithm at 0."""
    gan: Literal["hinge", "vanilla"] = "hinge"
    """What the discriminator minimises: margins, or cross-entropy. The release has hinge."""
    adversarial_weight: float = Field(ge=0)
    """Multiplied with the adaptive weight. 0: no discriminator."""
    adversarial_start: int = Field(ge=0)
    """Step at which the discriminator joins."""
    discriminator_channels: int = Field(ge=4)
    discriminator_layers: int = Field(ge=1)


class KLLoss(Loss):
    """Reconstruction and divergence are summed over a picture and averaged over the batch."""

    kl_weight: float = Field(ge=0)


class VQLoss(Loss):
    """Reconstruction and codebook term are averaged over all their elements, as released."""

    codebook_weight: float = Field(default=1.0, ge=0)


class AutoencoderTraining(Training):
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(min_length=2, max_length=2)
    """Adam's, of the autoencoder. The release has [0.5, 0.9], as its discriminator has here too."""
    flip: bool
    """Mirror each picture with probability one half, by (seed, step)."""
    crop: int | None = Field(default=None, ge=1)
    """Train on random squares of so many pixels a side, by (seed, step); null: on whole pictures."""


class Trained(Section):
    """What the trained kinds have in common."""

    dataset: str
    init_from: str
    """A name in `autoencoders` of the same architecture, whose weights training starts from, or none."""
    perceptual: str
    """A folder of data/weights with a perceptual trunk, or none."""
    train: AutoencoderTraining


class KL(Trained):
    """A first stage whose latent is a Gaussian kept near the standard one by a small Kullback-Leibler term."""

    kind: Literal["kl"]
    model: Architecture
    loss: KLLoss

    @model_validator(mode="after")
    def _perceptual_weight_has_a_trunk(self) -> "KL":
        _with_trunk(self.loss, self.perceptual)
        return self


class VQ(Trained):
    """A first stage whose latent is rounded to the nearest of learned codes, as the first layer of its decoder."""

    kind: Literal["vq"]
    model: QuantisedArchitecture
    loss: VQLoss

    @model_validator(mode="after")
    def _perceptual_weight_has_a_trunk(self) -> "VQ":
        _with_trunk(self.loss, self.perceptual)
        return self


def _with_trunk(loss: Loss, perceptual: str) -> None:
    if loss.perceptual_weight and perceptual == "none":
        raise ValueError(
            "loss.perceptual_weight needs a trunk: name a folder of data/weights in perceptual, or set it to 0"
        )


class Identity(Section):
    """Factor 1: the latent is the picture."""

    kind: Literal["identity"]
    dataset: str
    init_from: Literal["none"]
    perceptual: Literal["none"]


class Autoencoder(RootModel[Annotated[KL | VQ | Identity, Field(discriminator="kind")]]):
    """A row of `autoencoders`: what the row is stands in `root`."""


def read_row(file: Path) -> KL | VQ | Identity:
    """The row in `file`, a first stage's config.json. Beside it stands `size`, pixels a side of the pictures, or of the
    crops of them, that the stage was trained on; an imported one does not say."""
    about = read_json(file)
    return check({key: about[key] for key in about if key != "size"}, Autoencoder, "", file=str(file)).root


class Tokens(Section):
    """How captions become token ids."""

    length: int = Field(ge=3)
    """Tokens a caption, with its first and last mark; longer ones are cut."""
    vocabulary_size: int = Field(ge=32)
    """Of the WordPiece vocabulary trained on the captions, where no vocabulary file is named."""


class Layout(Section):
    """How boxes become token ids: three a box, then two for the part of the picture that is shown."""

    boxes: int = Field(ge=1)
    """Boxes a picture; of more the largest are kept."""
    vocabulary_size: int = Field(ge=17)
    """Positions, classes and the empty box share the ids. The release has 8192: positions on a grid of 90 x 90."""


class LowResolution(Section):
    factor: int = Field(ge=2)
    """How many times smaller."""
    degradation: Literal["bicubic", "bsr", "bsr_light"]
    """bicubic: antialiased. bsr, bsr_light: random blur, down-sampling, noise and JPEG besides (paper, section 4.4)."""


class Mask(Section):
    style: Literal["training", "thin", "medium", "thick"]
    """Strokes and boxes of LaMa (arXiv 2109.07161): what it trains on, or one of the three it is evaluated on."""


class Latents(Section):
    """A row of `latents`: a data set as one first stage sees it, and all that its pictures can be conditioned on.

    Of the optional ones, what is absent or null is not cached.
    """

    dataset: str
    autoencoder: str
    vocabulary: str
    """A folder of data/weights with a vocab.txt, or none: WordPiece is trained on the training captions."""
    clip: str
    """A folder of data/weights of kind clip, whose embeddings of captions and pictures are cached, or none."""
    tokens: Tokens | None = None
    """Of captions, where the data set has any."""
    layout: Layout | None = None
    low_resolution: LowResolution | None = None
    label_map: bool = False
    mask: Mask | None = None
    """A hole in each picture, and the latent of the picture without what it hides."""
    grey: bool = False
    """The latent of the picture without its colours."""
    crop: int | None = Field(default=None, ge=1)
    """A square of so many pixels a side: by (seed, id, draw) in training pictures, else the central one."""
    draws: int = Field(ge=1)
    """How often each training picture is cached, with crop, flip, mask and degradation by (seed, id, draw)."""
    flip: bool
    """Mirror training pictures, and all that lies on them, with probability one half."""
    batch: int = Field(ge=1)
    seed: int
