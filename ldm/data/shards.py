"""Prepared pictures: parquet shards in the Hugging Face image convention, written in order of id, read by position."""

import json
import re
import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int, UInt8
from torch import Tensor

from ldm.data import pictures
from ldm.files import check_whole, identity, read_json, whole

SPLITS = ("train", "validation", "test", "held_out")


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle in parts of the picture's width and height; `category` counts in dataset.json's box_classes."""

    x: float
    y: float
    width: float
    height: float
    category: int


@dataclass(frozen=True, kw_only=True)
class Example:
    """One picture and all that is known of it."""

    id: str
    image: bytes
    """PNG, RGB, 8 bits."""
    label: int | None = None
    caption: str | None = None
    boxes: tuple[Box, ...] | None = None
    label_map: bytes | None = None
    """PNG, one byte a pixel."""
    licence: str = ""


_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_BOX = pa.struct([(name, pa.float32()) for name in ("x", "y", "width", "height")] + [("category", pa.int64())])
_COLUMNS: list[tuple[str, pa.DataType]] = [
    ("id", pa.string()),
    ("image", _PICTURE),
    ("label", pa.int64()),
    ("caption", pa.string()),
    ("boxes", pa.list_(_BOX)),
    ("label_map", _PICTURE),
    ("licence", pa.string()),
]
_GROUP_ROWS = 64
_GROUP_BYTES = 1 << 20
"""A row group ends at either: reading one picture decodes one group."""
_CACHE_BYTES = 256 << 20


def schema(classes: Sequence[str] | None = None) -> pa.Schema:
    """The columns, with the features by which `datasets.load_dataset("parquet", ...)` decodes pictures and labels."""
    value: dict[str, dict[str, Any]] = {
        name: {"dtype": str(dtype), "_type": "Value"} for name, dtype in _COLUMNS if not pa.types.is_nested(dtype)
    }
    if classes is not None:
        value["label"] = {"names": list(classes), "_type": "ClassLabel"}
    box = {
        field.name: {"dtype": "float32" if field.name != "category" else "int64", "_type": "Value"} for field in _BOX
    }
    nested = {"image": {"_type": "Image"}, "label_map": {"_type": "Image"}, "boxes": {"feature": box, "_type": "List"}}
    features = {name: value.get(name) or nested[name] for name, _ in _COLUMNS}
    metadata = {"huggingface": json.dumps({"info": {"features": features}}, ensure_ascii=False)}
    return pa.schema([pa.field(name, dtype) for name, dtype in _COLUMNS], metadata=metadata)


def write_shards(
    folder: Path,
    split: str,
    examples: Iterable[Example],
    *,
    classes: Sequence[str] | None = None,
    shard_size: int = 4096,
) -> int:
    """Write `examples`, which come in order of id, as `SPLIT-00000.parquet` and so on; return how many there were.

    Each shard appears whole. Equal examples give equal bytes. Raises ValueError at an id that does not come after
    the one before it.
    """
    checked = _ascending(examples)
    columns = schema(classes)
    count = shard = 0
    group = _next_group(checked, shard_size)
    while group:
        with whole(folder / f"{split}-{shard:05d}.parquet") as beside:
            rows = 0
            with pq.ParquetWriter(
                beside, columns, compression="NONE", use_dictionary=False, write_statistics=["id"]
            ) as writer:
                while group:
                    writer.write_table(_table(group, columns), row_group_size=len(group))
                    rows += len(group)
                    group = _next_group(checked, shard_size - rows)
        count, shard = count + rows, shard + 1
        group = _next_group(checked, shard_size)
    return count


def _ascending(examples: Iterable[Example]) -> Iterator[Example]:
    before = None
    for example in examples:
        if before is not None and example.id <= before:
            problem = "occurs twice" if example.id == before else f"comes after {before!r}"
            raise ValueError(f"id {example.id!r} {problem}; examples are written in order of unique ids")
        before = example.id
        yield example


def _next_group(examples: Iterator[Example], room: int) -> list[Example]:
    group: list[Example] = []
    size = 0
    while len(group) < min(room, _GROUP_ROWS) and size < _GROUP_BYTES:
        example = next(examples, None)
        if example is None:
            break
        group.append(example)
        size += len(example.image)
    return group


def _table(examples: Sequence[Example], columns: pa.Schema) -> pa.Table:
    rows = [
        {
            "id": e.id,
            "image": {"bytes": e.image, "path": None},
            "label": e.label,
            "caption": e.caption,
            "boxes": None if e.boxes is None else [vars(box) for box in e.boxes],
            "label_map": None if e.label_map is None else {"bytes": e.label_map, "path": None},
            "licence": e.licence,
        }
        for e in examples
    ]
    return pa.Table.from_pylist(rows, schema=columns)


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path}: not a whole shard ({' '.join(str(error).split())}); prepare again") from None


class Images:
    """One split of a prepared data set, by position in order of id; safe to read from several threads and processes.

    `info` is dataset.json. Raises ValueError where the folder is incomplete or has no such split.
    """

    def __init__(self, folder: Path, split: str):
        identity(folder)
        self.info: dict[str, Any] = read_json(folder / "dataset.json")
        splits = self.info.get("splits", {})
        if not splits.get(split):
            raise ValueError(f"{folder}/dataset.json: no split '{split}' (there is: {', '.join(splits) or 'none'})")
        pattern = re.compile(re.escape(split) + r"-\d{5}\.parquet")
        paths = sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))
        check_whole(folder, paths)
        self._paths = paths
        self._open(_CACHE_BYTES)
        self.ids: list[str] = [i for file in self._files for i in file.read(columns=["id"])["id"].to_pylist()]
        expected = splits[split]
        if len(self.ids) != expected:
            raise ValueError(
                f"{folder}: {split} has {len(self.ids)} pictures, dataset.json says {expected}; prepare again"
            )

    def _open(self, cached: int) -> None:
        self._files = [_opened(path) for path in self._paths]
        self._groups = [(f, g) for f, file in enumerate(self._files) for g in range(file.num_row_groups)]
        self._starts = [0]
        for f, g in self._groups:
            self._starts.append(self._starts[-1] + self._files[f].metadata.row_group(g).num_rows)
        self._lock = threading.Lock()
        sizes = [self._files[f].metadata.row_group(g).total_byte_size for f, g in self._groups]
        self._group = lru_cache(maxsize=max(1, cached // max(sizes, default=cached)))(self._read_group)

    def __len__(self) -> int:
        return self._starts[-1]

    def __reduce__(self) -> tuple[Any, ...]:
        return _elsewhere, (tuple(self._paths),)

    def example(self, index: int) -> Example:
        row = {name: column[0].as_py() for name, column in self._row(index).items()}
        return Example(
            id=row["id"],
            image=row["image"]["bytes"],
            label=row["label"],
            caption=row["caption"],
            boxes=None if row["boxes"] is None else tuple(Box(**box) for box in row["boxes"]),
            label_map=None if row["label_map"] is None else row["label_map"]["bytes"],
            licence=row["licence"],
        )

    def captions(self) -> list[str | None]:
        """Those of all pictures, in order, without reading a picture."""
        return [caption for file in self._files for caption in file.read(columns=["caption"])["caption"].to_pylist()]

    def pixels(self, index: int) -> UInt8[Tensor, "3 h w"]:
        return pictures.decode(self._row(index)["image"][0].as_py()["bytes"])

    def batch(self, indices: Int[Tensor, " b"]) -> UInt8[Tensor, "b 3 h w"]:
        return pictures.stacked([self.pixels(index) for index in indices.tolist()])

    def _row(self, index: int) -> dict[str, pa.ChunkedArray]:
        if not 0 <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        group = bisect_right(self._starts, index) - 1
        table = self._group(group)
        return dict(zip(table.column_names, table.slice(index - self._starts[group], 1).columns, strict=True))

    def _read_group(self, group: int) -> pa.Table:
        file, within = self._groups[group]
        with self._lock:  # a ParquetFile is not for several threads at once
            return self._files[file].read_row_group(within, use_threads=False)


@lru_cache(maxsize=4)
def _elsewhere(paths: tuple[Path, ...]) -> Images:
    """In another process, the pictures alone: they were checked, and their ids read, where they come from."""
    images = Images.__new__(Images)
    images._paths = list(paths)
    images._open(_CACHE_BYTES // 16)  # such processes are many, and each reads on in order
    return images
