"""A row of `diffusion` in params.yaml."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ldm.conditioning import Conditions
from ldm.config import Section
from ldm.training.config import Training
from ldm.unet.config import UNet

Prediction = Literal["epsilon", "x0", "v"]
"""What a denoiser predicts."""
Objective = Literal[Prediction, "label"]


class Forward(Section):
    """What the forward processes have in common."""

    steps: int = Field(ge=1)
    """T, the steps of the forward process."""
    zero_terminal_snr: bool = False
    """Rescale so that the last step is noise alone, as sampling starts (arXiv 2305.08891, algorithm 1)."""

    @model_validator(mode="after")
    def _first_and_last_differ(self) -> "Forward":
        if self.zero_terminal_snr and self.steps < 2:
            raise ValueError("zero_terminal_snr needs a first and a last step: steps must be at least 2")
        return self


class Linear(Forward):
    """Betas linear in their square roots between two ends, as released."""

    kind: Literal["linear"]
    beta_start: float = Field(gt=0, lt=1)
    beta_end: float = Field(gt=0, lt=1)


class Cosine(Forward):
    """The squared cosine of arXiv 2102.09672, eq. 17: s = .008, betas at most .999.

    It ends in hardly any latent (alpha .00005 at T = 1000), from which epsilon does not tell it: better with x0 or v.
    """

    kind: Literal["cosine"]


class Regression(Section):
    """No diffusion, to compare with: one pass from condition to latent, of the same UNet.

    One step, at which nothing of the latent is left (alpha 0, sigma 1); squared differences make its optimum the mean
    of all latents that the condition allows. Sampled with ddim, num_steps 1.
    """

    kind: Literal["regression"]
    steps: ClassVar[int] = 1
    zero_terminal_snr: ClassVar[bool] = True


Schedule = Annotated[Linear | Cosine | Regression, Field(discriminator="kind")]


class DiffusionTraining(Training):
    loss: Literal["l1", "l2", "cross_entropy"]
    """Of the prediction: absolute or squared difference; of objective: label, cross-entropy."""
    snapshots: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    """Steps whose averaged weights are kept too, as ema-STEP.safetensors."""

    @model_validator(mode="after")
    def _snapshots_are_reached(self) -> "DiffusionTraining":
        if beyond := [step for step in self.snapshots if step > self.steps]:
            raise ValueError(f"snapshots has {beyond[0]}, but the training ends at steps: {self.steps}")
        return self


class Diffusion(Section):
    latents: str
    autoencoder: str
    """The one that made the latents; it decodes the pictures shown while training."""
    init_from: str
    """A diffusion model to start from instead of random weights, or none. It lends its latent scale too."""
    condition: Conditions
    unet: UNet
    objective: Objective
    """What the UNet predicts. epsilon: the noise. x0: the latent. v: alpha noise - sigma latent (arXiv 2202.00512),
    which is well posed at every step. label: the class, with its way down alone, to guide other models' samples."""
    schedule: Schedule
    scale: Literal["channel", "std"] | float
    """How raw latents become latents: each channel to mean 0 and std 1, all by one std, or by this factor."""
    snr_gamma: float | None = Field(default=None, gt=0)
    """Weigh steps by min(SNR, snr_gamma) of the latent's error (arXiv 2303.09556; 5 there). Absent: as released."""
    train: DiffusionTraining

    @model_validator(mode="after")
    def _scale_is_positive(self) -> "Diffusion":
        if isinstance(self.scale, float) and self.scale <= 0:
            raise ValueError(f"scale must be positive, found {self.scale:g}")
        return self

    @model_validator(mode="after")
    def _objective_is_defined(self) -> "Diffusion":
        if isinstance(self.schedule, Regression):
            if self.objective != "x0":
                raise ValueError(
                    f"schedule: {{kind: regression}} predicts the latent; say objective: x0, not {self.objective}"
                )
            if self.snr_gamma is not None:
                raise ValueError("snr_gamma weighs steps, and schedule: {kind: regression} has one; leave it out")
        if self.objective == "epsilon" and self.schedule.zero_terminal_snr:
            raise ValueError(
                "objective: epsilon has nothing to learn at the last step of schedule.zero_terminal_snr, all noise;"
                " say objective: v"
            )
        if (self.objective == "label") != (self.train.loss == "cross_entropy"):
            loss = "cross_entropy" if self.objective == "label" else "l2 or l1"
            raise ValueError(f"objective: {self.objective} has train.loss: {loss}, not {self.train.loss}")
        told = {getattr(part, "kind", None) for part in (self.condition.tokens, self.condition.channels)}
        if self.objective == "label" and told != {"none"}:
            raise ValueError("objective: label is told no condition; say kind: none for tokens and channels")
        if self.snr_gamma is not None and self.train.loss != "l2":
            raise ValueError("snr_gamma weighs squared differences; say train.loss: l2, or leave snr_gamma out")
        return self
