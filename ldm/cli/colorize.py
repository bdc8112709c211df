"""`ldm colorize`: colours for grey pictures, by a model that is shown grey ones."""

import typer

from ldm.cli.options import How, Model, Pictures, Told, Where, expanded

EXAMPLES = """Examples:

- `ldm colorize colourisation old.jpg --count 3`

- `ldm colorize colourisation album/ --out coloured --seed 7`"""


@expanded
def colorize(model: Model, pictures: Pictures, told: Told, how: How, where: Where) -> None:
    """Give pictures colours; those that they have are not looked at.

    Written to OUT/NAME-SEED.png, in the size of the picture.
    """
    from ldm.cli.pictured import draw_colorized

    for path in draw_colorized(model, pictures, told, how, where):
        typer.echo(path)
