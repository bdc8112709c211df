"""Tables with a column of picture files, as Hugging Face writes them."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from ldm.sources.candidate import Candidate, Found, Make, missing, photo
from ldm.sources.config import Parquet
from ldm.sources.joined import check_once
from ldm.sources.tree import matching

_ROWS = 16  # read at once


def parquet(config: Parquet, raw: Path) -> Found:
    """A row's id is that of the column `id`, or its hash (picture, label, caption): the order does not matter."""
    splits = {split: matching(raw, pattern) for split, pattern in config.splits.given().items()}
    check_once(raw, {split: [name for name, _ in files] for split, files in splits.items()})
    shards = [_shard(config, path, split) for split, files in splits.items() for _, path in files]
    named = {shard.names for shard in shards}
    if len(named) > 1:
        raise ValueError(f"{raw}: the files do not agree in the names of '{config.label}'; take files of one data set")
    return Found(
        candidates=partial(_candidates, config, shards),
        total=sum(shard.rows for shard in shards),
        classes=named.pop(),
    )


@dataclass(frozen=True)
class _Shard:
    path: Path
    split: str
    rows: int
    names: tuple[str, ...] | None
    """Of the labels, where the file's metadata has them."""


def _shard(config: Parquet, path: Path, split: str) -> _Shard:
    with _opened(path) as file:
        columns = file.schema_arrow
        wanted = {"image": config.image, "label": config.label, "caption": config.caption, "id": config.id}
        for key, column in wanted.items():
            if column is not None and columns.get_field_index(column) < 0:
                raise ValueError(
                    f"{path}: no column '{column}' (there is: {', '.join(columns.names)}); mend source.{key}"
                )
        for key, column in wanted.items():
            if key != "image" and column is not None and not _readable(columns.field(column).type, key):
                raise ValueError(
                    f"{path}: column '{column}' is {columns.field(column).type}, expected {_KINDS[key]}; "
                    f"mend source.{key}"
                )
        kind = columns.field(config.image).type
        inner = kind.field("bytes").type if types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
        if not (types.is_binary(inner) or types.is_large_binary(inner) or types.is_binary_view(inner)):
            raise ValueError(f"{path}: column '{config.image}' is {kind}, not picture files; mend source.image")
        return _Shard(path, split, file.metadata.num_rows, _names(columns, config.label))


_KINDS = {"label": "text or whole numbers", "caption": "text or lists of texts", "id": "text or whole numbers"}


def _readable(kind: pa.DataType, key: str) -> bool:
    """Whether a column of this type may hold what is asked of it; a column of nulls alone has no other type."""
    if types.is_dictionary(kind):
        return _readable(kind.value_type, key)
    if key == "caption" and (types.is_list(kind) or types.is_large_list(kind)):
        return _readable(kind.value_type, key)
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind)
    return text or (key != "caption" and types.is_integer(kind))


def _names(columns: pa.Schema, label: str | None) -> tuple[str, ...] | None:
    try:
        features = json.loads((columns.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        names = features[label]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    whole = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if whole and len(set(names)) == len(names) else None


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: not a whole parquet file ({' '.join(str(error).split())}); copy it again")


def _candidates(config: Parquet, shards: list[_Shard]) -> Iterator[Make]:
    seen: Counter[str] = Counter()
    for shard in shards:
        for number, row in enumerate(_rows(config, shard.path)):
            id = _id(config, row, f"{shard.path}, row {number}")
            seen[id] += 1
            if seen[id] > 1 and config.id is not None:
                raise ValueError(f"{shard.path}, row {number}: duplicate id '{id}'; mend the table or leave out id")
            # The same row again, whichever comes first: nothing in it depends on the order.
            yield partial(_candidate, config, shard, row, id if seen[id] == 1 else f"{id}-{seen[id]}")


def _rows(config: Parquet, path: Path) -> Iterator[dict[str, Any]]:
    columns = [column for column in (config.image, config.label, config.caption, config.id) if column is not None]
    try:
        with _opened(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS, columns=columns, use_threads=False):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise _damaged(path, error) from None


def _id(config: Parquet, row: Mapping[str, Any], place: str) -> str:
    if config.id is not None:
        value = row[config.id]
        if not isinstance(value, str | int) or not str(value):
            raise ValueError(f"{place}: no id in column '{config.id}'; mend source.id")
        return str(value)
    words = json.dumps([row.get(config.label or ""), row.get(config.caption or "")], default=str)
    return hashlib.sha256((_content(config, row) or b"") + words.encode()).hexdigest()[:32]


def _content(config: Parquet, row: Mapping[str, Any]) -> bytes | None:
    image = row[config.image]
    return image.get("bytes") if isinstance(image, dict) else image


def _candidate(config: Parquet, shard: _Shard, row: Mapping[str, Any], id: str) -> Candidate:
    content = _content(config, row)
    if content is None:
        return missing(id, f"no bytes in column '{config.image}' of {shard.path.name}")
    try:
        label, caption = _label(config, shard, row), _caption(config, row)
    except ValueError as error:
        return missing(id, f"{error} of {shard.path.name}")
    return photo(id, content, split=shard.split, label=label, caption=caption, licence=config.licence)


def _label(config: Parquet, shard: _Shard, row: Mapping[str, Any]) -> str | None:
    value = row.get(config.label or "")
    if value is None or isinstance(value, str):
        return value or None
    if not isinstance(value, int):
        raise ValueError(f"{value!r:.40} is no label in column '{config.label}'")
    if shard.names is None:
        return str(value)
    if value == -1:  # Hugging Face: not known
        return None
    if not 0 <= value < len(shard.names):
        raise ValueError(f"label {value} is not among the {len(shard.names)} names of column '{config.label}'")
    return shard.names[value]


def _caption(config: Parquet, row: Mapping[str, Any]) -> str | None:
    if config.caption is None:
        return None
    value = row[config.caption]
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, str):
        raise ValueError(f"no text in column '{config.caption}'")
    return " ".join(first.split())
