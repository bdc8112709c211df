"""Samples of a model, or of another method: parquet shards of pictures that name the originals they belong to."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ldm.files import whole

SHARD_ROWS = 4096


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample; pictures are PNG."""

    id: str
    """Of the original whose condition it was drawn under."""
    seed: int
    image: bytes
    label: int | None
    caption: str | None
    low_resolution: bytes | None


_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("seed", pa.int64()),
        ("image", _PICTURE),
        ("label", pa.int64()),
        ("caption", pa.string()),
        ("low_resolution", _PICTURE),
    ]
)


def write_samples(folder: Path, samples: Iterable[Sample]) -> None:
    """As `samples-00000.parquet` and so on, in the order given; each file appears whole."""
    remaining = iter(samples)
    for shard, rows in enumerate(iter(lambda: list(islice(remaining, SHARD_ROWS)), [])):
        table = pa.Table.from_pylist([_row(sample) for sample in rows], schema=_SCHEMA)
        with whole(folder / f"samples-{shard:05d}.parquet") as beside:
            pq.write_table(table, beside, compression="none")


def read_samples(folder: Path) -> Iterator[Sample]:
    """In the order written, without holding all of them. Raises ValueError where there are none."""
    files = sorted(folder.glob("samples-*.parquet"))
    if not files:
        raise ValueError(f"{folder}: no samples-*.parquet; run the stage that writes it (dvc repro)")
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=64):
            for row in batch.to_pylist():
                low = row.pop("low_resolution")
                yield Sample(**row | {"image": row["image"]["bytes"], "low_resolution": low and low["bytes"]})


def _row(sample: Sample) -> dict[str, object]:
    pictures = {"image": sample.image, "low_resolution": sample.low_resolution}
    nested = {name: None if png is None else {"bytes": png, "path": None} for name, png in pictures.items()}
    return vars(sample) | nested
