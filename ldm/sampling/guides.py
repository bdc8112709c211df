"""From a row's guide to a distance: what it compares, and with what."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ldm.autoencoder.model import FirstStage, VQAutoencoder
from ldm.data.pictures import to_float, to_uint8
from ldm.diffusion.model import DiffusionModel
from ldm.diffusion.model import load as load_diffusion
from ldm.nn.vision import perceptual
from ldm.sampling.config import ClassifierGuide, ClipGuide, Drawing, PictureGuide, SmallGuide
from ldm.sampling.image_guidance import Distance, Pictures, grey, l2, masked, reduced
from ldm.training.exact import placed

Measure = Callable[[Pictures, Pictures], Float[Tensor, " b"]]
Likeness = Callable[[Pictures, Sequence[str]], Float[Tensor, " b"]]


@dataclass(frozen=True, kw_only=True)
class Networks:
    """What guides ask of networks beside the model, on its device."""

    perceptual: Measure | None = None
    clip: Likeness | None = None
    classifier: DiffusionModel | None = None


def networks(how: Drawing, weights: Path, classifier: Path, device: torch.device) -> Networks:
    """The networks that `how` needs: from `weights`, a folder of data/weights, or the model in the folder `classifier`.

    Each is named none where `how` needs none.
    """
    match how.guide:
        case ClipGuide():
            from ldm.nn.clip import load  # costs seconds, and is for this guide alone

            clip = load(weights)
            if clip is None:
                raise ValueError("guide: {kind: clip} needs a folder of data/weights of kind clip, not none")
            return Networks(clip=clip.to(device).similarity)
        case PictureGuide(distance="perceptual") | SmallGuide(distance="perceptual"):
            network = perceptual(weights)
            if network is None:
                raise ValueError("guide: distance: perceptual needs a folder of data/weights, not none")
            return Networks(perceptual=network.to(device))
        case ClassifierGuide():
            model, _ = load_diffusion(classifier)
            if model.objective != "label":
                raise ValueError(f"{classifier} draws pictures; a guide needs a model of objective: label")
            return Networks(classifier=placed(model, device))
    return Networks()


def distance(
    guide: PictureGuide | SmallGuide | ClipGuide,
    rows: dict[str, Tensor],
    picture: Pictures | None,
    small: Pictures | None,
    using: Networks,
    prompts: Sequence[str],
) -> Distance:
    """How far pictures are from what `guide` holds them to.

    `picture` is the rows' own and `small` the smaller sample, for guides that compare with them. Raises ValueError of
    one line where a perceptual distance cannot see pictures as small as what is compared.
    """
    if isinstance(guide, ClipGuide):
        likeness, prompt = using.clip, guide.prompt
        assert likeness is not None
        return lambda pictures: -likeness(pictures, prompts if prompt is None else [prompt] * len(pictures))
    transform = _transform(guide, rows, small)
    if small is not None:
        target = small
    elif guide.kind == "low_resolution":
        target = to_float(rows["low_resolution"])
    else:
        assert picture is not None
        target = transform(picture)
    measure = l2 if guide.distance == "l2" else using.perceptual
    assert measure is not None
    _check_seen(measure, target)
    return lambda pictures: measure(transform(pictures), target)


def _check_seen(measure: Measure, target: Pictures) -> None:
    try:
        measure(target[:1], target[:1])
    except RuntimeError as error:  # of torch's pooling and convolutions
        if "too small" not in str(error) and "greater than actual input size" not in str(error):
            raise
        height, width = target.shape[2:]
        raise ValueError(
            f"guide: pictures of {height} x {width} are too small for distance: perceptual; say distance: l2"
        ) from None


def _transform(
    guide: PictureGuide | SmallGuide, rows: dict[str, Tensor], small: Pictures | None
) -> Callable[[Pictures], Pictures]:
    match guide.kind:
        case "small":
            assert small is not None
            height, width = small.shape[2:]
            return lambda pictures: reduced(pictures, (height, width))
        case "low_resolution":
            height, width = rows["low_resolution"].shape[2:]
            return lambda pictures: reduced(pictures, (height, width))
        case "grey":
            return grey
        case "masked":
            hole = rows["mask"][:, None] > 0
            return lambda pictures: masked(pictures, hole)
        case "identity":
            return lambda pictures: pictures


def paint(first_stage: FirstStage, raw: Float[Tensor, "b z h w"]) -> Pictures:
    """The decoded picture, with a gradient: through a codebook's rounding it passes straight."""
    if isinstance(first_stage, VQAutoencoder):
        return first_stage.paint(raw + (first_stage.codebook(raw) - raw).detach())
    return first_stage.decode(raw)


def original(first_stage: FirstStage, rows: dict[str, Tensor]) -> UInt8[Tensor, "b 3 H W"]:
    """The rows' pictures: themselves where they are there (`picture`, or `pixels` of the identity), else decoded."""
    for column in ("picture", "pixels"):
        if column in rows:
            return rows[column]
    return to_uint8(first_stage.decode(rows["mean"]))
