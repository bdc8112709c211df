"""Decoding latents too large for the memory at once: overlapping tiles, one by one, blended."""

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.autoencoder.model import FirstStage


def decode_tiled(
    first_stage: FirstStage, latent: Float[Tensor, "b z h w"], tile: int, overlap: int
) -> Float[Tensor, "b 3 H W"]:
    """`first_stage.decode(latent)`, by squares of `tile` latent places that overlap by `overlap` and fade into another.

    One tile that holds the whole latent gives the same picture. Several do not give quite the same: group norms and
    attention see only their tile. Memory goes with the tile, beside the picture itself.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"tiles of {tile} cannot overlap by {overlap}: choose an overlap from 0 to {tile - 1}")
    height, width, factor = *latent.shape[2:], first_stage.factor
    if height <= tile and width <= tile:
        return first_stage.decode(latent)
    picture = latent.new_zeros((len(latent), 3, height * factor, width * factor))
    weights = latent.new_zeros(picture.shape[2:])
    for top in _starts(height, tile, overlap):
        for left in _starts(width, tile, overlap):
            part = first_stage.decode(latent[:, :, top : top + tile, left : left + tile])
            weight = torch.outer(*(_fade(side, overlap * factor).to(part) for side in part.shape[2:]))
            rows, columns = (slice(a * factor, a * factor + n) for a, n in zip((top, left), weight.shape, strict=True))
            picture[:, :, rows, columns] += weight * part
            weights[rows, columns] += weight
    return picture / weights


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along a side; the last one ends where the side does."""
    last = max(0, size - tile)
    return [*range(0, last, tile - overlap), last]


def _fade(size: int, overlap: int) -> Float[Tensor, " size"]:
    """1 inside a tile, falling linearly towards its ends over `overlap` pixels."""
    place = torch.arange(size) + 0.5
    nearest_end = torch.minimum(place, size - place)
    return (nearest_end / max(overlap, 0.5)).clamp(max=1)
