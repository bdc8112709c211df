"""A frozen first stage as caching runs it: a fixed batch, on a GPU as one CUDA graph."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ldm.autoencoder.model import FirstStage, Moments
from ldm.config import Run
from ldm.training.exact import precision
from ldm.training.graphed import graphed


class Encoder:
    """The first stage run at exactly `batch` (the last one padded), so that bytes never depend on a rest.

    Its first call captures the graph: no other thread may use the GPU then.
    """

    def __init__(self, first_stage: FirstStage, batch: int, run: Run) -> None:
        self.first_stage, self.batch, self.run = first_stage, batch, run
        self._encode = graphed(self._moments, torch.device(run.device))

    @torch.no_grad()
    def __call__(self, image: Float[Tensor, "b 3 h w"]) -> Moments:
        """Of at most `batch` images, on the device they are on; nothing waits for it to compute them."""
        mean, std = self._encode(image=padded(image, self.batch))
        return Moments(*(v[: len(image)].clone(memory_format=torch.contiguous_format) for v in (mean, std)))

    def _moments(self, image: Tensor) -> tuple[Tensor, Tensor]:
        if image.is_cuda:
            image = image.contiguous(memory_format=torch.channels_last)
        with precision(self.run):
            moments = self.first_stage.encode(image)
        return moments.mean, moments.std


def padded(values: Shaped[Tensor, "b ..."], batch: int) -> Shaped[Tensor, "batch ..."]:
    """The last one repeated until there are `batch`."""
    if len(values) == batch:
        return values
    return torch.cat([values, values[-1:].expand(batch - len(values), *values.shape[1:])])
