"""`ldm sample`: pictures of a model, from texts, classes, boxes or label maps, or of nothing."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from ldm.cli.options import How, Model, Told, Where, expanded

EXAMPLES = """Examples:

- `ldm sample text-f4 --prompt "a red square" --prompt "a blue ring" --count 4`

- `ldm sample models/diffusion/label --label cat --guidance 2 --out cats`

- `ldm sample layout --layout boxes.json`

- `ldm sample label-map --label-map map.png`

- `ldm sample text-f4 --prompt "a red square" --start photo.png --strength 0.6`

- `ldm sample unconditional --size 256x512 --sampler dpm_solver --steps 20`

- `ldm sample unconditional --guide-kind classifier --classifier label-classifier --label "red square"`

- `ldm sample unconditional --estimates 8`"""


class GuideKind(StrEnum):
    low_resolution = "low_resolution"
    identity = "identity"
    grey = "grey"
    small = "small"
    clip = "clip"
    classifier = "classifier"


class Distance(StrEnum):
    l2 = "l2"
    perceptual = "perceptual"


@expanded
def sample(
    model: Model,
    told: Told,
    how: How,
    where: Where,
    label_map: Annotated[
        list[Path] | None, Option(help="A PNG of one byte a pixel, its class, any number of times.")
    ] = None,
    size: Annotated[str | None, Option(help="HEIGHTxWIDTH in pixels.  [default: as trained]")] = None,
    start: Annotated[Path | None, Option(help="Start from this picture, noised.")] = None,
    strength: Annotated[
        float | None, Option(min=0, max=1, help="How far it is noised: 1 leaves nothing of it.  [default: 0.6]")
    ] = None,
    guide_kind: Annotated[GuideKind | None, Option(help="Hold the sample to something, without training.")] = None,
    guide: Annotated[
        Path | None, Option(help="The picture that it is held to; none for small, clip and classifier.")
    ] = None,
    guide_scale: Annotated[float | None, Option(min=0, help="How firmly.  [default: by kind, 0.5 to 300]")] = None,
    guide_distance: Annotated[Distance, Option(help="In which it is held.")] = Distance.l2,
    perceptual_weights: Annotated[Path | None, Option(help="The folder of data/weights of that distance.")] = None,
    classifier: Annotated[
        str | None, Option(help="A model of objective: label, folder or name, that leads to each --label.")
    ] = None,
    estimates: Annotated[
        int, Option(min=0, help="Also write NAME-SEED-estimates.png: so many looks at how the picture comes to be.")
    ] = 0,
) -> None:
    """Draw pictures from a model.

    Written to OUT/NAME-SEED.png, where NAME is the prompt, class or file that the model was told.
    """
    from ldm.cli.beginning import Beginning, draw_beginning

    beginning = Beginning(
        label_maps=label_map or [],
        size=size,
        start=start,
        strength=strength,
        guide_kind=guide_kind,
        guide=guide,
        guide_scale=guide_scale,
        guide_distance=guide_distance,
        perceptual_weights=perceptual_weights,
        classifier=classifier,
        estimates=estimates,
    )
    for path in draw_beginning(model, told, beginning, how, where):
        typer.echo(path)
