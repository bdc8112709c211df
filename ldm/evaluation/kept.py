"""Vectors kept one by one in a file, of which memory holds a block at a time, however many there are.

The file has no name and ends with the process, however that ends. It is mapped into memory: its pages belong to the
kernel, which drops them when anyone needs the room and reads them again. It lies in TMPDIR where that is set, otherwise
in /var/tmp, a disk where /tmp may itself be memory.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import IO

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Shaped
from torch import Tensor

ROWS = 500
"""Vectors of a block: few enough for memory, which holds some matrices of block by block, and enough for speed."""


def blocks(count: int, rows: int = ROWS) -> Iterator[slice]:
    """The places of `count` vectors, block by block."""
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))


class Kept:
    """Vectors of one shape and type, added batch by batch."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._like = torch.empty(0)
        self.count = 0

    def add(self, vectors: Shaped[Tensor, "b ..."]) -> None:
        """Raises OSError that names the folder where the disk is full."""
        self._file = self._file or _nameless()
        _append(self._file, vectors)
        self._like = vectors.new_empty(0, *vectors.shape[1:])
        self.count += len(vectors)

    @property
    def vectors(self) -> Shaped[Tensor, "n ..."]:
        """Those added so far, one at least. To be read, not written."""
        assert self._file is not None
        shape = (self.count, *self._like.shape[1:])
        return torch.from_numpy(np.memmap(self._file, self._like.numpy().dtype, "c", shape=shape))


def filled(count: int, width: int, value: int | float, dtype: torch.dtype) -> Shaped[Tensor, "count width"]:
    """`count` rows of `width` numbers in such a file, to be written and read; raises OSError as `Kept.add`.

    The file has its room from the first, so that no write to the map can fail for want of it.
    """
    file, rows = _nameless(), torch.full((min(ROWS, count), width), value, dtype=dtype)
    for block in blocks(count):
        _append(file, rows[: block.stop - block.start])
    return torch.from_numpy(np.memmap(file, rows.numpy().dtype, "r+", shape=(count, width)))


def _folder() -> str:
    folders = (os.environ.get("TMPDIR"), "/var/tmp")
    return next((folder for folder in folders if folder and Path(folder).is_dir()), gettempdir())


def _nameless() -> IO[bytes]:
    return TemporaryFile(dir=_folder())


def _append(file: IO[bytes], rows: Shaped[Tensor, "b ..."]) -> None:
    try:
        file.write(rows.contiguous().numpy().data)
        file.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, _folder()) from error


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """Vectors as distances are taken between them: in double precision, centred and scaled wherever they are read."""

    vectors: Float[Tensor, "n d"]
    centre: Float64[Tensor, "..."]
    scale: Float64[Tensor, " d"]

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, places: slice | Int[Tensor, " b"]) -> Float64[Tensor, "b d"]:
        return (self.vectors[places].double() - self.centre) / self.scale


Vectors = Float64[Tensor, "_ d"] | Scaled
"""What can be counted and read block by block."""
