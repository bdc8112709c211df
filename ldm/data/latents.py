"""Cached latents: Arrow files of fixed-size rows, memory-mapped, read in any order without decoding."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from ldm.files import check_whole, identity, read_json, whole

DTYPES = {
    "mean": torch.float32,
    "std": torch.float32,
    "pixels": torch.uint8,
    "tokens": torch.int32,
    "layout": torch.int32,
    "low_resolution": torch.uint8,
    "label_map": torch.uint8,
    "mask": torch.uint8,
    "masked": torch.float32,
    "grey": torch.float32,
    "picture": torch.uint8,
    "clip_text": torch.float32,
    "clip_image": torch.float32,
}
"""The fixed-size columns there can be; beside them every row has id, draw, label (-1: none) and caption."""

_SCALARS = {"id": pa.string(), "draw": pa.int64(), "label": pa.int64(), "caption": pa.string()}
_BATCH_BYTES = 16 << 20
_FILE_BATCHES = 16


@runtime_checkable
class Append(Protocol):
    def __call__(
        self,
        ids: Sequence[str],
        draws: Sequence[int],
        labels: Sequence[int],
        columns: Mapping[str, Tensor],
        captions: Sequence[str | None] | None = None,
    ) -> None: ...


def rows_in_file(shapes: Mapping[str, Sequence[int]], batch: int) -> int:
    """How many rows a file has, but for the last of a split: about 256 MiB, in whole batches of so many rows."""
    return max(1, _FILE_BATCHES * _batch_rows(shapes) // batch) * batch


@contextmanager
def write_latents(folder: Path, split: str, shapes: Mapping[str, Sequence[int]], number: int = 0) -> Iterator[Append]:
    """Yield a function that appends rows, in order of (id, draw), to the file `SPLIT-00000.arrow` of that `number`.

    `shapes` gives each fixed-size column's shape without the batch axis. How the rows are cut into calls changes no
    byte. The file appears whole when the block ends well.

    >>> with write_latents(folder, "train", {"mean": (3, 8, 8)}) as append:
    ...     append(["a", "b"], [0, 0], [-1, -1], {"mean": mean})
    """
    fields = [*_SCALARS.items()]
    for name in sorted(shapes, key=[*DTYPES].index):
        fields.append((name, pa.list_(pa.from_numpy_dtype(_numpy(name)), prod(shapes[name]))))
    schema = pa.schema([pa.field(name, dtype) for name, dtype in fields])
    with whole(folder / file_name(split, number)) as beside, pa.ipc.new_file(beside, schema) as file:
        writer = _Writer(file, schema, shapes)
        yield writer.append
        writer.write(writer.waiting_rows)


def file_name(split: str, number: int) -> str:
    return f"{split}-{number:05d}.arrow"


def _batch_rows(shapes: Mapping[str, Sequence[int]]) -> int:
    """Rows of a record batch."""
    row_bytes = sum(prod(shape) * DTYPES[name].itemsize for name, shape in shapes.items())
    return max(1, _BATCH_BYTES // max(1, row_bytes))


class _Writer:
    def __init__(self, file: pa.RecordBatchFileWriter, schema: pa.Schema, shapes: Mapping[str, Sequence[int]]):
        self.file, self.schema, self.batch_rows = file, schema, _batch_rows(shapes)
        self.shapes = {name: tuple(shapes[name]) for name in DTYPES if name in shapes}
        self.scalars: dict[str, list[Any]] = {name: [] for name in _SCALARS}
        self.blocks: dict[str, list[np.ndarray]] = {name: [] for name in self.shapes}
        self.waiting_rows = 0
        self.last: tuple[str, int] | None = None

    def append(
        self,
        ids: Sequence[str],
        draws: Sequence[int],
        labels: Sequence[int],
        columns: Mapping[str, Tensor],
        captions: Sequence[str | None] | None = None,
    ) -> None:
        for row in zip(ids, draws, strict=True):
            assert self.last is None or row > self.last, (
                f"row {row} after {self.last}: rows come in order of (id, draw)"
            )
            self.last = row
        captions = [None] * len(ids) if captions is None else captions
        for waiting, values in zip(self.scalars.values(), (ids, draws, labels, captions), strict=True):
            assert len(values) == len(ids), f"{len(values)} values for {len(ids)} rows"
            waiting.extend(values)
        for name, shape in self.shapes.items():
            block = columns[name].detach().cpu()
            assert block.dtype == DTYPES[name], f"{name}: {block.dtype}, expected {DTYPES[name]}"
            assert block.shape == (len(ids), *shape), f"{name}: {tuple(block.shape)}, expected {(len(ids), *shape)}"
            self.blocks[name].append(block.reshape(len(ids), -1).numpy().copy())
        self.waiting_rows += len(ids)
        while self.waiting_rows >= self.batch_rows:
            self.write(self.batch_rows)

    def write(self, rows: int) -> None:
        """Move the first `rows` of those waiting into the file, as one record batch."""
        if rows == 0:
            return
        # Fresh arrays, not slices of what was appended: Arrow writes a slice's bytes as they lie around it.
        arrays = [pa.array(values[:rows], _SCALARS[name]) for name, values in self.scalars.items()]
        for name, blocks in self.blocks.items():
            block = np.concatenate(blocks)
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(block[:rows].reshape(-1)), block.shape[1]))
            self.blocks[name] = [block[rows:]]
        self.file.write(pa.RecordBatch.from_arrays(arrays, schema=self.schema))
        self.scalars = {name: values[rows:] for name, values in self.scalars.items()}
        self.waiting_rows -= rows


def read_back(files: Sequence[Path], columns: Mapping[str, Sequence[int]], rows: int) -> Iterator[dict[str, Tensor]]:
    """The `columns`, a shape each, of the rows in whole `files`, in order, `rows` at a time and then the rest."""
    if not files:
        return
    table = pa.concat_tables([_table(path) for path in files])
    for start in range(0, len(table), rows):
        part = table.slice(start, rows)
        flat = {name: part[name].combine_chunks().flatten().to_numpy(zero_copy_only=True) for name in columns}
        # A copy, for the map cannot be written to and torch would warn of that.
        yield {name: torch.from_numpy(flat[name].copy()).view(len(part), *columns[name]) for name in columns}


class Texts(Sequence[Any]):
    """A column of texts, read out of the memory-mapped file when asked for: a million ids cost no memory."""

    def __init__(self, chunks: Iterable[pa.StringArray]):
        self._column = pa.chunked_array([*chunks], pa.string())

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: Any) -> Any:
        found = self._column[index]
        return found.to_pylist() if isinstance(index, slice) else found.as_py()

    def __iter__(self) -> Iterator[Any]:
        for chunk in self._column.chunks:
            yield from chunk.to_pylist()


class Latents:
    """One split of a latents folder: rows in order of (id, draw), by position; safe to read from several threads.

    `info` is latents.json. Raises ValueError where the folder is incomplete or has no such split.
    """

    def __init__(self, folder: Path, split: str):
        identity(folder)
        self.folder = folder
        self.info: dict[str, Any] = read_json(folder / "latents.json")
        if not self.info["counts"].get(split):
            there = ", ".join(self.info["counts"]) or "none"
            raise ValueError(f"{folder}: no split '{split}' (there is: {there})")
        pattern = re.compile(re.escape(split) + r"-\d{5}\.arrow")
        paths = sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))
        check_whole(folder, paths)
        files = [_File(path) for path in paths]
        batches = [batch for file in files for batch in file.batches]
        self._file = np.repeat(np.arange(len(files)), [len(file.batches) for file in files])
        self._starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
        expected = self.info["counts"][split]
        if len(self) != expected:
            raise ValueError(f"{folder}: {split} has {len(self)} rows, latents.json says {expected}; cache again")
        self.ids = Texts(batch["id"] for batch in batches)
        self._captions = Texts(batch["caption"] for batch in batches)
        self._draws = [batch["draw"] for batch in batches]
        self.shapes: dict[str, tuple[int, ...]] = {name: tuple(shape) for name, shape in self.info["shapes"].items()}
        self._columns = {name: _Column(files, name, shape) for name, shape in {**self.shapes, "label": ()}.items()}

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def draws(self) -> Int[Tensor, " rows"]:
        return torch.from_numpy(np.concatenate([draws.to_numpy() for draws in self._draws]))

    def caption(self, index: int) -> str | None:
        return self._captions[index]

    def read(
        self, indices: Int[Tensor, " b"], columns: Sequence[str] | None = None
    ) -> dict[str, Shaped[Tensor, " b ..."]]:
        """The rows at `indices`, each column with its shape, `label` int64 (-1: none); copied once, out of the map.

        `columns`: those to read, and `label`; None: all.
        """
        rows = indices.numpy()
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()}..{rows.max()} of {len(self)}")
        batch = np.searchsorted(self._starts, rows, side="right") - 1
        file, row = self._file[batch], rows - self._starts[batch]
        files = {number: np.flatnonzero(file == number) for number in np.unique(file).tolist()}
        wanted = self._columns if columns is None else {*columns, "label"}
        return {name: torch.from_numpy(self._columns[name].read(files, batch, row)) for name in wanted}


class _File:
    """A whole file, mapped: its bytes, and its record batches, which lie in them."""

    def __init__(self, path: Path):
        buffer = pa.memory_map(str(path)).read_buffer()
        self.bytes = np.frombuffer(buffer, np.uint8)
        self.batches: list[pa.RecordBatch] = pa.ipc.open_file(pa.BufferReader(buffer)).read_all().to_batches()


class _Column:
    """A column of all files, whose rows are read by where they lie.

    A shuffled batch has about a row from each of many record batches: to ask them one by one took seven times as long.
    """

    def __init__(self, files: Sequence[_File], name: str, shape: tuple[int, ...]):
        values = [[_values(batch[name]) for batch in file.batches] for file in files]
        self._shape, self._dtype = shape, values[0][0].dtype
        self._row = np.dtype((np.void, prod(shape) * self._dtype.itemsize))
        # Of each file, the row that would begin at each of its bytes.
        self._rows = [np.ndarray(len(f.bytes) - self._row.itemsize + 1, self._row, f.bytes, strides=1) for f in files]
        # Of each record batch, the byte of its file where its first row does begin.
        starts = [v.ctypes.data - f.bytes.ctypes.data for f, here in zip(files, values, strict=True) for v in here]
        self._starts = np.array(starts)

    def read(self, files: Mapping[int, np.ndarray], batch: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Rows, each by its record batch and its place there; `files` says which of them lie in a file."""
        begin = self._starts[batch] + row * self._row.itemsize
        result = np.empty(len(row), self._row)
        for number, here in files.items():
            result[here] = self._rows[number][begin[here]]
        return result.view(self._dtype).reshape(len(row), *self._shape)


def _table(path: Path) -> pa.Table:
    """Memory-mapped."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _values(column: pa.Array) -> np.ndarray:
    """Of all rows, one after the other, as they lie in the file."""
    flat = column.flatten() if isinstance(column, pa.FixedSizeListArray) else column
    return flat.to_numpy(zero_copy_only=True)


def _numpy(name: str) -> np.dtype:
    return torch.empty(0, dtype=DTYPES[name]).numpy().dtype
