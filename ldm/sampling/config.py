"""A row of `samples` in params.yaml, and a row of `methods`."""

from typing import Annotated, Literal

from pydantic import Field, RootModel, model_validator

from ldm.config import Section


class DDPM(Section):
    """Every step of the schedule, with the posterior's own noise (arXiv 2006.11239)."""

    kind: Literal["ddpm"]


class Fewer(Section):
    """What samplers that skip steps have in common."""

    num_steps: int = Field(ge=1)
    """Any number from 1 to the steps of the schedule."""
    spacing: Literal["even", "released"] = "even"
    """even: any count, from the schedule's last step to no noise at all. released: i * floor(T / S) + 1, ending at the
    noise of the first step, as the authors' code has it; only for counts that it meets."""


class DDIM(Fewer):
    """Fewer steps (arXiv 2010.02502)."""

    kind: Literal["ddim"]
    eta: float = Field(ge=0, le=1)
    """Noise added at each step: 0 none, 1 as much as DDPM."""


class PLMS(Fewer):
    """Linear multistep on the noise estimate (arXiv 2202.09778); one evaluation more than its steps."""

    kind: Literal["plms"]


class DPMSolver(Section):
    """DPM-Solver++(2M) (arXiv 2211.01095): second order, for 10 to 50 steps."""

    kind: Literal["dpm_solver"]
    num_steps: int = Field(ge=1)


Split = Literal["train", "validation", "test", "held_out"]
Sampler = Annotated[DDPM | DDIM | PLMS | DPMSolver, Field(discriminator="kind")]


class Patches(Section):
    """Denoise in overlapping squares, blended where they overlap, for sizes whose whole does not fit in memory."""

    size: int = Field(ge=1)
    """Pixels a side."""
    overlap: int = Field(ge=0)
    """Pixels that neighbours share at least."""

    @model_validator(mode="after")
    def _goes_on(self) -> "Patches":
        if self.overlap >= self.size:
            raise ValueError(f"overlap {self.overlap} must be less than size {self.size}")
        return self


class Start(Section):
    """Start from the split's own pictures, noised, instead of from pure noise."""

    strength: float = Field(gt=0, le=1)
    """Which part of the schedule they are noised to: 1 leaves next to nothing of them."""


class PictureGuide(Section):
    """Hold the sample to what is known of the row's picture (paper, appendix C); no training."""

    kind: Literal["low_resolution", "identity", "grey", "masked"]
    """What is held to it: the low-resolution picture, the whole, its grey values, or what lies outside the mask."""
    distance: Literal["l2", "perceptual"] = "l2"
    """l2: half the sum of squared differences. perceptual: that of the weights."""
    scale: float = Field(gt=0)
    """Of the distance's gradient; for l2 one over the variance that the guide is taken to have."""


class SmallGuide(Section):
    """Draw at the training size first, then hold the larger sample's bicubic reduction to that."""

    kind: Literal["small"]
    distance: Literal["l2", "perceptual"] = "l2"
    scale: float = Field(gt=0)


class ClipGuide(Section):
    """Raise the likeness of picture and prompt that CLIP, in the row's weights, sees."""

    kind: Literal["clip"]
    prompt: str | None = None
    """The same for all; null: each row's caption."""
    scale: float = Field(gt=0)


class ClassifierGuide(Section):
    """Raise the probability of each row's label that the row's classifier sees in the noisy latent."""

    kind: Literal["classifier"]
    scale: float = Field(gt=0)
    """Of the gradient of its logarithm; 1 would be Bayes' rule."""


Guide = Annotated[PictureGuide | SmallGuide | ClipGuide | ClassifierGuide, Field(discriminator="kind")]


class Drawing(Section):
    """How pictures are drawn from a model, whatever their conditions come from."""

    sampler: Sampler
    guidance: float = Field(ge=0)
    """Scale of classifier-free guidance; 1 is none."""
    seed: int
    size: list[int] | None = Field(default=None, min_length=2, max_length=2)
    """Height and width in pixels; null: as trained."""
    patches: Patches | None = None
    tile: int | None = Field(default=512, ge=1)
    """Pictures larger than this many pixels a side are decoded in overlapping squares of that size; null: never."""
    start: Start | None = None
    guide: Guide | None = None
    keep_known: bool = False
    """Inpaint with a model that is not told the mask: outside it the latent is held to the picture's at each step."""

    @model_validator(mode="after")
    def _at_most_one_begins_elsewhere(self) -> "Drawing":
        if self.start and isinstance(self.guide, SmallGuide):
            raise ValueError("start and guide: {kind: small} both say where a sample begins; leave out one")
        if self.keep_known and isinstance(self.guide, SmallGuide):
            raise ValueError("keep_known has no picture of the smaller sample that guide: {kind: small} draws first")
        return self


class Samples(Drawing):
    """A row of `samples`."""

    model: str
    autoencoder: str
    latents: str
    """Where conditions and originals' ids come from."""
    weights: str
    """A folder of data/weights for a guide that needs a network (perceptual, clip), or none."""
    classifier: str
    """A diffusion model of objective: label, for a guide of kind classifier, or none."""
    snapshot: int | None = Field(default=None, ge=1)
    """The averaged weights kept at this step of training; null: those at its end."""
    split: Split
    count: int = Field(ge=1)
    """Samples; they take the conditions of the split's pictures in a fixed shuffled order, again and again."""
    batch: int = Field(ge=1)

    @model_validator(mode="after")
    def _a_guide_has_its_network(self) -> "Samples":
        wanted = isinstance(self.guide, ClipGuide) or getattr(self.guide, "distance", "l2") == "perceptual"
        if wanted and self.weights == "none":
            raise ValueError("guide needs a network: name a folder of data/weights in weights")
        if not wanted and self.weights != "none":
            raise ValueError(f"weights {self.weights} are used by no guide: set weights to none")
        wanted = isinstance(self.guide, ClassifierGuide)
        if wanted and self.classifier == "none":
            raise ValueError("guide: {kind: classifier} needs one: name a diffusion model of objective: label")
        if not wanted and self.classifier != "none":
            raise ValueError(f"classifier {self.classifier} is used by no guide: set classifier to none")
        return self


class Told(Section):
    """What a method was told of each original, named as a model's condition is."""

    tokens: Literal["none", "label", "text", "layout", "clip_text", "clip_image"]
    channels: Literal["none", "low_resolution", "label_map", "mask", "grey"]


class Collected(Section):
    """What samples that no model of ours made have in common."""

    latents: str
    """Whose originals and conditions the pictures belong to."""
    split: Split
    count: int = Field(ge=1)
    """Samples: of the split's first originals in its fixed shuffled order, the one that models are sampled in."""


class FolderMethod(Collected):
    """Pictures that another program made, one for each original, matched by name."""

    kind: Literal["folder"]
    folder: str
    """Where they lie. A file is named as its original's id is, or the last part of it, with or without its ending."""
    condition: Told


class BicubicMethod(Collected):
    """The low-resolution pictures of the latents, enlarged to the originals' size."""

    kind: Literal["bicubic"]
    folder: Literal["data/raw/none"]
    """It reads no pictures of its own."""


class Method(RootModel[Annotated[FolderMethod | BicubicMethod, Field(discriminator="kind")]]):
    """A row of `methods`: what the row is stands in `root`."""
