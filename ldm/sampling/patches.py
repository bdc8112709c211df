"""Denoising in overlapping patches, where the whole latent does not fit in memory (paper, section 4.3.2)."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ldm.diffusion.model import Denoise
from ldm.nn.condition import Condition

Denoiser = Callable[[Condition], Denoise]
"""A model as a function from a condition to a denoiser under it."""


def patched(denoiser: Denoiser, size: int, overlap: int) -> Denoiser:
    """`denoiser` on squares of `size` places of the latent, one after the other, blended over what they share.

    Neighbours share at least `overlap` places, and each is given its own part of the condition's channels; tokens are
    the same for all. One patch that holds the whole latent gives what the whole gives; several do too, outside what
    they share, if the denoiser sees no farther than its patch.
    """

    def under(condition: Condition) -> Denoise:
        def denoise(noisy: Float[Tensor, "b c h w"], step: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
            height, width = noisy.shape[2:]
            blended, weights = torch.zeros_like(noisy), noisy.new_zeros(height, width)
            for rows in _sides(height, size, overlap):
                for columns in _sides(width, size, overlap):
                    here = denoiser(_part(condition, rows, columns))
                    latent = here(noisy[:, :, rows, columns], step)
                    weight = torch.outer(*(_fade(side, overlap).to(latent) for side in latent.shape[2:]))
                    blended[:, :, rows, columns] += weight * latent
                    weights[rows, columns] += weight
            return blended / weights

        return denoise

    return under


def _part(condition: Condition, rows: slice, columns: slice) -> Condition:
    channels = condition.channels
    return Condition(tokens=condition.tokens, channels=None if channels is None else channels[:, :, rows, columns])


def _sides(length: int, size: int, overlap: int) -> list[slice]:
    """The least number of patches that cover a side: all of one size and evenly spaced."""
    if length <= size:
        return [slice(0, length)]
    gaps = -(-(length - size) // (size - overlap))
    return [slice(start, start + size) for start in ((length - size) * i // gaps for i in range(gaps + 1))]


def _fade(length: int, overlap: int) -> Float[Tensor, " length"]:
    """1 inside a patch, falling towards its ends over `overlap` places; never 0."""
    place = torch.arange(length)
    return (torch.minimum(place + 1, length - place) / (overlap + 1)).clamp_max(1)
