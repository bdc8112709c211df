"""Batches of drawn pictures in the order of their rows, made by threads or by processes."""

from collections.abc import Generator, Iterable
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from ldm.autoencoder.columns import Batch, draw_pictures, drawn_columns
from ldm.autoencoder.config import Latents
from ldm.data.batches import ahead
from ldm.data.shards import Images

INPUTS = ("pixels", "mask", "grey")
"""Columns that networks read."""


@dataclass(frozen=True)
class Drawing:
    """Decodes pictures of a split and draws what needs no network: on any thread, and in any process."""

    config: Latents
    images: Images
    training: bool

    def __call__(self, places: range) -> Batch:
        """The rows at `places` of those in order of (id, draw)."""
        rows = draw_pictures(self.config, self.images, places, self.training)
        columns = {name: make(rows) for name, make in drawn_columns(self.config).items()}
        return Batch(
            ids=[row.example.id for row in rows],
            draws=[row.draw for row in rows],
            labels=[-1 if row.example.label is None else row.example.label for row in rows],
            captions=[row.example.caption for row in rows],
            columns=columns,
            inputs={name: columns[name] for name in INPUTS if name in columns},
        )

    def ahead(
        self, places: Iterable[range], workers: int, pool: Executor | None = None
    ) -> Generator[Batch, None, None]:
        """The batches at `places`, read ahead by as many threads, or by a pool of processes."""
        if pool is None:
            yield from ahead(self, places, workers)
            return
        with closing(ahead(self._packed, places, workers, pool=pool)) as packed:
            yield from map(_unpacked, packed)

    def _packed(self, places: range) -> dict[str, Any]:
        """A batch as arrays, which go through a pipe; torch would put tensors into shared memory, of which containers
        have little."""
        batch = self(places)
        return vars(batch) | {"columns": {n: column.numpy() for n, column in batch.columns.items()}, "inputs": None}


def _unpacked(packed: dict[str, Any]) -> Batch:
    columns = {name: torch.from_numpy(array) for name, array in packed["columns"].items()}
    inputs = {name: columns[name] for name in INPUTS if name in columns}
    return Batch(**packed | {"columns": columns, "inputs": inputs})
