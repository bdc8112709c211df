"""A frozen first stage as caching runs it: a fixed batch, as fast as the device allows."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ldm.autoencoder.model import FirstStage, Moments


class Encoder:
    """The first stage run at exactly `batch` (the last one padded), so that bytes never depend on a rest."""

    def __init__(self, first_stage: FirstStage, batch: int) -> None:
        self.first_stage, self.batch = first_stage, batch

    @torch.no_grad()
    def __call__(self, image: Float[Tensor, "b 3 h w"]) -> Moments:
        """Of at most `batch` images, on the device they are on; nothing waits for it to be computed."""
        moments = self.first_stage.encode(padded(image, self.batch))
        return Moments(*(values[: len(image)].float().contiguous() for values in (moments.mean, moments.std)))


def padded(values: Shaped[Tensor, "b ..."], batch: int) -> Shaped[Tensor, "batch ..."]:
    """The last one repeated until there are `batch`."""
    if len(values) == batch:
        return values
    return torch.cat([values, values[-1:].expand(batch - len(values), *values.shape[1:])])
