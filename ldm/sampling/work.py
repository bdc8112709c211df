"""The batches of a sample stage: drawn once, kept on disk, read again in order."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

from jaxtyping import Int, UInt8
from torch import Tensor

from ldm.autoencoder.model import FirstStage
from ldm.data.latents import Latents
from ldm.data.samples import Sample
from ldm.diffusion.model import DiffusionModel
from ldm.sampling.config import Samples
from ldm.sampling.described import described, order
from ldm.sampling.draw import draw
from ldm.sampling.guides import Networks, original
from ldm.sampling.kept import keep, kept
from ldm.sampling.sheet import MOST
from ldm.sampling.shown import shown

Picture = UInt8[Tensor, "3 _ _"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a sample stage draws; `folder` is where batches are kept until all are there."""

    config: Samples
    model: DiffusionModel
    first_stage: FirstStage
    data: Latents
    networks: Networks
    kinds: Mapping[str, str]
    """Of the condition's tokens and channels."""
    folder: Path

    @property
    def inpaints(self) -> bool:
        return self.config.keep_known or self.kinds["channels"] == "mask"

    def starts(self) -> range:
        """The number of the first sample of each batch."""
        return range(0, self.config.count, self.config.batch)

    def batch(self, start: int) -> tuple[list[Picture], list[int]]:
        """Pictures, and the row whose condition each has; drawn where they are not kept yet.

        Always exactly `config.batch` are drawn, so that the bytes of one never depend on how many are wanted.
        """
        wanted = self._wanted(start)
        path = self.folder / f"batch-{start:09d}.safetensors"
        pictures = kept(path)
        if pictures is None:
            numbers = range(start, start + self.config.batch)
            prompts = [self.data.caption(row) or "" for row in wanted.tolist()]
            steps = draw(
                self.model, self.first_stage, self._rows(wanted), numbers, self.config,
                paste=self.inpaints, networks=self.networks, prompts=prompts,
            )  # fmt: skip
            (last,) = deque(steps, maxlen=1)
            pictures = last.pictures()
            keep(path, pictures)
        return list(pictures[: self.config.count - start]), wanted.tolist()

    def samples(self) -> Iterator[Sample]:
        """All of them, in order, a batch at a time."""
        for start in self.starts():
            pictures, wanted = self.batch(start)
            yield from described(self.data, wanted, pictures, self._shown(start), start, masks=self.inpaints)

    def first(self) -> list[tuple[Picture, Picture | None]]:
        """The first samples, and what the model was shown for each."""
        return list(islice(self._pairs(), MOST))

    def _pairs(self) -> Iterator[tuple[Picture, Picture | None]]:
        for start in self.starts():
            pictures, _ = self.batch(start)
            seen = self._shown(start)
            for i, picture in enumerate(pictures):
                yield picture, None if seen is None else seen[i]

    def _shown(self, start: int) -> UInt8[Tensor, "b 3 h w"] | None:
        rows = self._rows(self._wanted(start))
        return shown(self.kinds, self.inpaints, rows, partial(original, self.first_stage, rows), self.data.info)

    def _rows(self, wanted: Int[Tensor, " b"]) -> dict[str, Tensor]:
        device = self.model.scale.shift.device
        return {name: values.to(device) for name, values in self.data.read(wanted).items()}

    def _wanted(self, start: int) -> Int[Tensor, " b"]:
        return self._order[start : start + self.config.batch]

    @cached_property
    def _order(self) -> Int[Tensor, " samples"]:
        """The row of each sample, the last batch filled up."""
        batches = -(-self.config.count // self.config.batch)
        return order(self.data, batches * self.config.batch)
