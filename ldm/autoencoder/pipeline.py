"""The way of a batch into the cache: drawn by threads, sent and brought back beside the encoding of others."""

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial

import torch

from ldm.autoencoder.columns import Batch, Column, Encoded, draw_pictures, latent_columns
from ldm.autoencoder.config import Latents
from ldm.autoencoder.encoder import Encoder
from ldm.data.batches import ahead
from ldm.data.latents import Append
from ldm.data.pictures import to_float
from ldm.data.shards import Images

INPUTS = ("pixels", "mask", "grey")
"""Columns that networks read."""
UNWRITTEN = 32
"""Batches that may wait for the disk: a second of encoding, for flushing a file holds up those after it."""


class Pipeline:
    """Draws, sends, encodes and writes at the same time, in order, with bounded memory.

    `drawn` and `encoded` make the columns beside the latent. No byte depends on the number of threads that draw.
    """

    def __init__(
        self,
        config: Latents,
        encoder: Encoder,
        drawn: Mapping[str, Column],
        encoded: Mapping[str, Encoded],
        device: torch.device,
    ) -> None:
        self.config, self.encoder, self.drawn, self.encoded, self.device = config, encoder, drawn, encoded, device
        self._aside = torch.cuda.Stream(device) if device.type == "cuda" else None

    def shapes(self, images: Images) -> dict[str, list[int]]:
        """Of each column without the batch axis; and the networks are warm then."""
        columns = self.encode(self.send(self.draw(images, range(1), True))).columns
        return {name: list(values.shape[1:]) for name, values in columns.items()}

    def run(
        self, images: Images, training: bool, rows: range, append: Append, workers: int
    ) -> Generator[int, None, None]:
        """Append those `rows` of `images`, counted in order of (id, draw); yield how many more are written.

        They are encoded in batches from the first on, so the same rows have the same bytes where they begin with one.
        """
        places = [rows[start : start + self.config.batch] for start in range(0, len(rows), self.config.batch)]
        beside = min(workers, 1)
        with (
            closing(ahead(lambda part: self.draw(images, part, training), places, workers)) as drawn,
            closing(ahead(self.send, drawn, beside)) as sent,
            closing(ahead(partial(write, append), map(self.encode, sent), beside, UNWRITTEN)) as written,
        ):
            yield from written

    def draw(self, images: Images, places: range, training: bool) -> Batch:
        """Decode pictures and draw what needs no network; on any thread."""
        rows = draw_pictures(self.config, images, places, training)
        columns = {name: make(rows) for name, make in self.drawn.items()}
        return Batch(
            ids=[row.example.id for row in rows],
            draws=[row.draw for row in rows],
            labels=[-1 if row.example.label is None else row.example.label for row in rows],
            captions=[row.example.caption for row in rows],
            columns=columns,
            inputs={name: columns[name] for name in INPUTS if name in columns},
        )

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
