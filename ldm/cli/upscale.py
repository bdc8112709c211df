"""`ldm upscale`: small pictures larger, by a model that is shown low-resolution pictures."""

import typer

from ldm.cli.options import How, Model, Pictures, Told, Where, expanded

EXAMPLES = """Examples:

- `ldm upscale sr-f4 small.png`

- `ldm upscale models/diffusion/sr-f4 thumbnails/ --out large --patches 256`"""


@expanded
def upscale(model: Model, pictures: Pictures, told: Told, how: How, where: Where) -> None:
    """Enlarge pictures by the factor that the model was trained for.

    Pictures of any size go in; written to OUT/NAME-SEED.png.
    """
    from ldm.cli.pictured import draw_upscaled

    for path in draw_upscaled(model, pictures, told, how, where):
        typer.echo(path)
