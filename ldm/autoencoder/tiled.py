"""Pictures and latents too large for the memory at once: overlapping tiles, one by one, blended."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.autoencoder.model import FirstStage, Moments


def encode_tiled(first_stage: FirstStage, image: Float[Tensor, "b 3 H W"], tile: int, overlap: int) -> Moments:
    """`first_stage.encode(image)`, by squares of `tile` latent places that overlap by at least `overlap`.

    Sides are multiples of the first stage's factor, and so is where tiles begin: their places are those of the whole.
    Mean and std are blended alike. What `decode_tiled` says of its tiles holds here too; besides, an encoder that
    halves sees farther to the right and below, where it is padded, than to the left and above.
    """
    factor = first_stage.factor

    def moments(rows: slice, columns: slice) -> Float[Tensor, "b two_z h w"]:
        part = first_stage.encode(image[:, :, _times(rows, factor), _times(columns, factor)])
        return torch.cat([part.mean, part.std], dim=1)

    height, width = (side // factor for side in image.shape[2:])
    return Moments(*blended(moments, (height, width), tile, overlap).chunk(2, dim=1))


def decode_tiled(
    first_stage: FirstStage, latent: Float[Tensor, "b z h w"], tile: int, overlap: int
) -> Float[Tensor, "b 3 H W"]:
    """`first_stage.decode(latent)`, by squares of `tile` latent places that overlap by at least `overlap`.

    One tile that holds the whole latent gives the same picture. Several do not give quite the same: group norms and
    attention see only their tile. Memory goes with the tile, beside the picture itself.
    """

    def picture(rows: slice, columns: slice) -> Float[Tensor, "b 3 H W"]:
        return first_stage.decode(latent[:, :, rows, columns])

    return blended(picture, latent.shape[2:], tile, overlap, first_stage.factor)


def blended(
    part: Callable[[slice, slice], Float[Tensor, "b c _ _"]],
    size: Sequence[int],
    tile: int,
    overlap: int,
    factor: int = 1,
) -> Float[Tensor, "b c H W"]:
    """What `part(rows, columns)` makes of each tile of a plane of `size` places, fading into another where they meet.

    `part` makes `factor` pixels a side of each place. Tiles are `tile` places a side; neighbours share at least
    `overlap` of them. A plane no larger than a tile is one part, as it is made. Raises ValueError where tiles cannot
    overlap so far.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"tiles of {tile} cannot overlap by {overlap}: choose an overlap from 0 to {tile - 1}")
    down, across = (_spans(side, tile, overlap) for side in size)
    if len(down) == len(across) == 1:
        return part(down[0], across[0])
    plane = [side * factor for side in size]
    total, weights = None, torch.zeros(plane)
    for rows in down:
        for columns in across:
            made = part(rows, columns)
            if total is None:
                total = made.new_zeros((*made.shape[:2], *plane))
            weight = torch.outer(*(_fade(side, overlap * factor) for side in made.shape[2:]))
            place = (..., _times(rows, factor), _times(columns, factor))
            total[place] += weight.to(made) * made
            weights[place] += weight
    assert total is not None
    return total / weights.to(total)


def _times(span: slice, factor: int) -> slice:
    return slice(span.start * factor, span.stop * factor)


def _spans(length: int, size: int, overlap: int) -> list[slice]:
    """The least number of tiles that cover a side: all of one size and evenly spaced."""
    if length <= size:
        return [slice(0, length)]
    gaps = -(-(length - size) // (size - overlap))
    return [slice(start, start + size) for start in ((length - size) * i // gaps for i in range(gaps + 1))]


def _fade(length: int, overlap: int) -> Float[Tensor, " length"]:
    """1 inside a tile, falling linearly towards its ends over `overlap` places; never 0."""
    place = torch.arange(length)
    return (torch.minimum(place + 1, length - place) / (overlap + 1)).clamp_max(1)
