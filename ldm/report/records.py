"""Reading what other stages wrote: each way in which a file can be broken is a ValueError of one line that names it."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from safetensors import SafetensorError, safe_open

from ldm.files import check_whole, read_json


class Record(Mapping[str, Any]):
    """A table that knows the file and the place it was read from, so that a missing or mistyped entry says where."""

    def __init__(self, values: Any, file: Path | str, place: str = ""):
        if not isinstance(values, Mapping):
            raise ValueError(f"{file}: {place or 'the top level'}: expected a table, found {type(values).__name__}")
        self.values_: Mapping[str, Any] = values
        self.file, self.place = file, place

    def __getitem__(self, key: str) -> Any:
        if key not in self.values_:
            raise ValueError(f"{self._where(key)}: missing; run the stage that writes it again")
        value = self.values_[key]
        return self.table(key) if isinstance(value, Mapping) else value

    def __contains__(self, key: object) -> bool:
        return key in self.values_

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if self.values_.get(key) is not None else default

    def table(self, key: str) -> "Record":
        """The table at `key`; one that is absent or null is empty."""
        value = self.values_.get(key)
        return Record({} if value is None else value, self.file, self._place(key))

    def text(self, key: str) -> str:
        return str(self._typed(key, (str, int, float), "text"))

    def number(self, key: str) -> float:
        value = self._typed(key, (int, float), "a number")
        if isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"{self._where(key)}: expected a finite number, found {value!r}")
        return float(value)

    def count(self, key: str) -> int:
        return int(self._typed(key, (int,), "a whole number"))

    def rows(self, key: str) -> Sequence[Any]:
        return list(self._typed(key, (list, tuple), "a list"))

    def _typed(self, key: str, types: tuple[type, ...], name: str) -> Any:
        value = self[key]
        if not isinstance(value, types):
            raise ValueError(f"{self._where(key)}: expected {name}, found {type(value).__name__}")
        return value

    def _place(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def _where(self, key: str) -> str:
        return f"{self.file}: {self._place(key)}"


def read_record(path: Path) -> Record:
    return Record(read_json(path), path)


def read_history(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar of a history.csv as its (step, value) pairs, in the file's order; empty cells are left out."""
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines(), strict=True))
        columns: dict[str, list[tuple[int, float]]] = {}
        for row in rows:
            step = int(float(row["step"]))
            for name, cell in row.items():
                if name != "step" and cell:
                    columns.setdefault(name, []).append((step, float(cell)))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ValueError(f"{path}: not a history of steps ({_short(error)}); run its stage again") from None
    return columns


def rows_of(shards: Sequence[Path], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of `shards` in order as plain values, only the `columns` named; stop when you have enough.

    Raises ValueError at a shard that is not as its stage wrote it.
    """
    for shard in shards:
        check_whole(shard.parent, [shard])  # one flipped bit may leave a picture that opens, and looks otherwise
        try:
            with pq.ParquetFile(shard) as file:
                if missing := [name for name in columns if name not in file.schema_arrow.names]:
                    raise ValueError(f"no column '{missing[0]}'")
                for batch in file.iter_batches(batch_size=64, columns=list(columns)):
                    yield from batch.to_pylist()
        except (OSError, ValueError, pa.ArrowException) as error:
            raise ValueError(f"{shard}: not a readable shard ({_short(error)}); run its stage again") from None


def rows_by_id(shards: Sequence[Path], columns: Sequence[str], ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The first row of each of the `ids`; one that no shard holds is a ValueError."""
    found: dict[str, dict[str, Any]] = {}
    wanted = set(ids)
    for shard in shards:
        if not wanted:
            break
        held = wanted & {row["id"] for row in rows_of([shard], ["id"])}  # pictures are read of shards that hold one
        for row in rows_of([shard], ["id", *columns]) if held else ():
            if row["id"] in held:
                found[row["id"]] = row
                held.remove(row["id"])
            if not held:
                break
        wanted -= found.keys()
    if wanted:
        where = shards[0].parent if shards else "no shards"
        raise ValueError(f"{where}: no row with id '{min(wanted)}'; the folders are of different runs (dvc repro)")
    return found


def open_picture(content: bytes, place: Path | str) -> Image.Image:
    """The picture whole in memory, in RGB, so that a truncated one is found here and not in the reader's browser."""
    try:
        with Image.open(BytesIO(content)) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{place}: not a readable picture ({_short(error)}); run its stage again") from None


def parameter_count(path: Path) -> int:
    """How many numbers a safetensors file holds, from its header alone."""
    try:
        with safe_open(path, framework="numpy") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: not readable as safetensors ({_short(error)}); run its stage again") from None


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
