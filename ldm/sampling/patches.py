"""Denoising in overlapping patches, where the whole latent does not fit in memory (paper, section 4.3.2)."""

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor

from ldm.autoencoder.tiled import blended
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
            def part(rows: slice, columns: slice) -> Float[Tensor, "b c _ _"]:
                return denoiser(_part(condition, rows, columns))(noisy[:, :, rows, columns], step)

            return blended(part, noisy.shape[2:], size, overlap)

        return denoise

    return under


def _part(condition: Condition, rows: slice, columns: slice) -> Condition:
    channels = condition.channels
    return Condition(tokens=condition.tokens, channels=None if channels is None else channels[:, :, rows, columns])
