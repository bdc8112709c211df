"""What a way of drawing comes to for one model: sizes and steps, with what cannot be refused in one line."""

from collections.abc import Mapping

from torch import Tensor

from ldm.autoencoder.model import FirstStage
from ldm.diffusion.model import DiffusionModel
from ldm.sampling.config import DDPM, ClassifierGuide, ClipGuide, Drawing, PictureGuide, SmallGuide
from ldm.sampling.steps import time_steps


def picture_size(model: DiffusionModel, factor: int, how: Drawing) -> tuple[int, int]:
    """Height and width in pixels of what is drawn."""
    height, width = how.size or (side * factor for side in model.shape[1:])
    return height, width


def step_list(length: int, how: Drawing) -> list[int]:
    """The steps of a schedule of `length` that the sampler takes, falling."""
    noised = length if how.start is None else max(1, round(how.start.strength * length))
    if isinstance(how.sampler, DDPM):
        return list(reversed(range(noised)))
    num_steps = how.sampler.num_steps
    if how.start is not None and num_steps > noised:
        raise ValueError(
            f"num_steps {num_steps} is more than the {noised} steps of the schedule that start.strength "
            f"{how.start.strength:g} leaves"
        )
    return time_steps(noised, num_steps, getattr(how.sampler, "spacing", "even"))


def evaluations(model: DiffusionModel, how: Drawing) -> int:
    """Steps that are yielded while drawing, those of a small guide among them."""
    steps = len(step_list(len(model.schedule), how))
    return 2 * steps if isinstance(how.guide, SmallGuide) else steps


def check(model: DiffusionModel, first_stage: FirstStage, how: Drawing) -> None:
    """Raise ValueError of one line for what this model cannot do."""
    if model.objective == "label":
        raise ValueError("this model is a classifier (objective: label): it guides others and draws nothing itself")
    step_list(len(model.schedule), how)
    if how.guidance != 1 and not any(model.conditioner.drops):
        raise ValueError(
            f"guidance {how.guidance:g} leads away from the null condition, and no part of this model's condition was "
            "trained on it (drop > 0): set guidance to 1.0"
        )
    factor, halvings = first_stage.factor, model.unet.config.factor
    multiple = f"a multiple of {factor * halvings}, the autoencoder's factor {factor} times the UNet's {halvings}"
    size = picture_size(model, factor, how)
    if any(side % (factor * halvings) for side in size):
        raise ValueError(f"size [{size[0]}, {size[1]}]: height and width must each be {multiple}")
    if how.patches is not None and how.patches.size % (factor * halvings):
        raise ValueError(f"patches.size {how.patches.size} must be {multiple}")
    if how.patches is not None and -(-how.patches.overlap // factor) * factor >= how.patches.size:
        raise ValueError(
            f"patches.overlap {how.patches.overlap} comes to all of size {how.patches.size} in steps of the "
            f"autoencoder's factor {factor}: say at most {how.patches.size - factor}"
        )
    if isinstance(how.guide, ClassifierGuide) and size != tuple(side * factor for side in model.shape[1:]):
        raise ValueError("guide: {kind: classifier} knows latents of the training size only: leave out size")
    if isinstance(how.guide, SmallGuide):
        _check_small(model, factor, size)


def _check_small(model: DiffusionModel, factor: int, size: tuple[int, int]) -> None:
    small = [side * factor for side in model.shape[1:]]
    times = size[0] / small[0]
    if size == tuple(small) or size[0] % small[0] or size[1] != times * small[1]:
        raise ValueError(
            f"guide: {{kind: small}} needs size to be 2, 3, ... times the training's [{small[0]}, {small[1]}], "
            f"not [{size[0]}, {size[1]}]"
        )


def check_rows(
    rows: Mapping[str, Tensor], model: DiffusionModel, first_stage: FirstStage, how: Drawing, paste: bool
) -> None:
    """Raise ValueError of one line where `rows` lack a column that drawing reads, or have pictures of another size."""
    for reason, columns in _reads(how, paste).items():
        for column in columns:
            if column != "picture" and column not in rows:
                raise ValueError(f"{reason} needs latents with the column {column} (see the latents row)")
        if "picture" in columns:
            found = tuple(side * first_stage.factor for side in _latent_size(rows, reason))
            wanted = picture_size(model, first_stage.factor, how)
            if found != wanted:
                raise ValueError(
                    f"{reason} needs pictures of the sampled size {list(wanted)}, and the latents' have {list(found)}"
                )


def _reads(how: Drawing, paste: bool) -> dict[str, list[str]]:
    """What asks for which columns; `picture` is the picture itself, in whatever form it is there."""
    reads = {}
    if how.start is not None:
        reads["start"] = ["picture"]
    if how.keep_known:
        reads["keep_known"] = ["picture", "mask"]
    if paste:
        reads["inpainting"] = ["picture", "mask"]
    match how.guide:
        case PictureGuide(kind="low_resolution"):
            reads["guide"] = ["low_resolution"]
        case PictureGuide(kind="masked"):
            reads["guide"] = ["picture", "mask"]
        case PictureGuide():
            reads["guide"] = ["picture"]
        case ClassifierGuide():
            reads["guide"] = ["label"]
        case SmallGuide() | ClipGuide() | None:
            pass
    return reads


def _latent_size(rows: Mapping[str, Tensor], reason: str) -> tuple[int, int]:
    for column in ("pixels", "mean"):
        if column in rows:
            height, width = rows[column].shape[2:]
            return height, width
    raise ValueError(f"{reason} needs the pictures themselves, and these rows have none")
