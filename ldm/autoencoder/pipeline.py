"""The way of a batch into the cache: drawn, sent, encoded, brought back and written, each beside the others."""

from collections.abc import Generator, Mapping
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import replace
from functools import partial

import torch

from ldm.autoencoder.columns import Batch, Encoded, latent_columns
from ldm.autoencoder.config import Latents
from ldm.autoencoder.drawing import Drawing
from ldm.autoencoder.encoder import Encoder
from ldm.data.batches import ahead
from ldm.data.latents import Append
from ldm.data.pictures import to_float
from ldm.data.shards import Images

UNWRITTEN = 32
"""Batches that may wait for the disk: a second of encoding, for flushing a file holds up those after it."""


class Pipeline:
    """Draws, sends, encodes and writes at the same time, in order, with bounded memory.

    `encoded` makes the columns that need a network beside the latent. No byte depends on how many draw.
    """

    def __init__(self, config: Latents, encoder: Encoder, encoded: Mapping[str, Encoded], device: torch.device) -> None:
        self.config, self.encoder, self.encoded, self.device = config, encoder, encoded, device
        self._aside = torch.cuda.Stream(device) if device.type == "cuda" else None

    def shapes(self, images: Images) -> dict[str, list[int]]:
        """Of each column without the batch axis; and the networks are warm then."""
        columns = self.encode(self.send(Drawing(self.config, images, True)(range(1)))).columns
        return {name: list(values.shape[1:]) for name, values in columns.items()}

    def run(
        self, drawing: Drawing, rows: range, append: Append, workers: int, pool: Executor | None = None
    ) -> Generator[int, None, None]:
        """Append those `rows`, counted in order of (id, draw); yield how many more are written.

        They are encoded in batches from the first on, so the same rows have the same bytes where they begin with one.
        """
        places = [rows[start : start + self.config.batch] for start in range(0, len(rows), self.config.batch)]
        beside = min(workers, 1)
        with (
            closing(ahead(drawing, places, workers, pool=pool)) as drawn,
            closing(ahead(self.send, drawn, beside)) as sent,
            closing(ahead(partial(write, append), map(self.encode, sent), beside, UNWRITTEN)) as written,
        ):
            yield from written

    def send(self, batch: Batch) -> Batch:
        """With its inputs on the device, copied from page-locked memory while the GPU computes."""
        if self._aside is None:
            return batch
        with torch.cuda.stream(self._aside):
            inputs = {n: values.pin_memory().to(self.device, non_blocking=True) for n, values in batch.inputs.items()}
            self._aside.synchronize()
        for values in inputs.values():
            values.record_stream(torch.cuda.default_stream(self.device))
        return replace(batch, inputs=inputs)

    def encode(self, batch: Batch) -> Batch:
        """With all columns that are written; from a GPU they arrive when the batch is `ready`."""
        moments = self.encoder(to_float(batch.inputs["pixels"]))
        columns = {name: values for name, values in batch.columns.items() if name != "pixels"}
        columns |= latent_columns(self.encoder.first_stage, batch.columns["pixels"], moments)
        columns |= {name: make(batch) for name, make in self.encoded.items()}
        columns = {name: values.to("cpu", non_blocking=True) for name, values in columns.items()}
        ready = torch.cuda.current_stream(self.device).record_event() if self._aside is not None else None
        return replace(batch, columns=columns, inputs={}, ready=ready)


def write(append: Append, batch: Batch) -> int:
    """Append its rows; how many those are."""
    if batch.ready is not None:
        batch.ready.synchronize()
    append(batch.ids, batch.draws, batch.labels, batch.columns, batch.captions)
    return len(batch.ids)
