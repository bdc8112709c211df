"""`ldm inpaint`: pictures with their holes filled."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from ldm.cli.options import How, Model, Pictures, Told, Where, expanded

EXAMPLES = """Examples:

- `ldm inpaint inpainting photo.png --mask hole.png`

- `ldm inpaint inpainting a.png b.png --mask a-hole.png --mask b-hole.png --count 3`

- `ldm inpaint inpainting folder/`, where beside `x.png` lies `x_mask.png`

- `ldm inpaint text-and-mask photo.png --mask hole.png --prompt "a red square"`"""


@expanded
def inpaint(
    model: Model,
    pictures: Pictures,
    told: Told,
    how: How,
    where: Where,
    mask: Annotated[
        list[Path] | None,
        Option(
            help="White is the hole: one for all pictures, one for each, or a folder with x_mask.png for each x.png.  "
            "[default: x_mask.png beside x.png]"
        ),
    ] = None,
    guide_scale: Annotated[
        float | None,
        Option(min=0, help="Of a model that is not shown the mask, also guide the sample to what is known."),
    ] = None,
) -> None:
    """Fill the holes of pictures; what is not in the hole stays as it is, to the byte.

    A model that is shown masks sees the hole; any other model that is shown nothing has the known part held at each
    step of the sampler. Written to OUT/NAME-SEED.png, in the size of the picture.
    """
    from ldm.cli.pictured import draw_inpainted

    for path in draw_inpainted(model, pictures, mask or [], guide_scale, told, how, where):
        typer.echo(path)
