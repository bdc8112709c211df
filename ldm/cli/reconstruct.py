"""`ldm reconstruct`: what a first stage keeps of pictures."""

from typing import Annotated

import typer
from typer import Argument

from ldm.cli.options import TILE, Pictures, Tile, Where, expanded

EXAMPLES = """Examples:

- `ldm reconstruct kl-f4 photo.png`

- `ldm reconstruct models/autoencoders/kl-f4 photos/ --out reconstructed`"""


@expanded
def reconstruct(
    autoencoder: Annotated[
        str, Argument(help="A first stage's folder, or its name in models/autoencoders.", metavar="AUTOENCODER")
    ],
    pictures: Pictures,
    where: Where,
    tile: Tile = TILE,
) -> None:
    """Encode pictures and decode them again, and say how near they come: PSNR in dB, higher is nearer.

    Nothing that a diffusion model draws can be better than that. Written to OUT/NAME.png, in the size of the picture.
    """
    from ldm.cli.reconstructed import reconstructed

    for path, psnr in reconstructed(autoencoder, pictures, where, tile):
        typer.echo(f"{path}  {psnr:.2f} dB")
