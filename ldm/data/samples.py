"""Samples of a model, or of another method: parquet shards of pictures that name the originals they belong to."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from ldm.data.pictures import to_png
from ldm.files import MANIFEST, check_whole, whole

SHARD_ROWS = 4096
GROUP_ROWS = 64
"""Written at once, so that this many pictures are in memory, however many there are."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample; pictures are PNG."""

    id: str
    """Of the original whose condition it was drawn under."""
    seed: int
    """The sample's number, which with the row's seed keys its noise."""
    image: bytes
    label: int | None
    caption: str | None
    low_resolution: bytes | None
    shown: bytes | None
    """What the model was shown, as a person can look at it: a picture with a grey hole, coloured labels, boxes."""
    mask: bytes | None
    """Of the hole that was filled: one byte a pixel, 255 in the hole."""


PICTURES = ("image", "low_resolution", "shown", "mask")
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("seed", pa.int64()),
        ("image", _PICTURE),
        ("label", pa.int64()),
        ("caption", pa.string()),
        ("low_resolution", _PICTURE),
        ("shown", _PICTURE),
        ("mask", _PICTURE),
    ]
)


def write_samples(folder: Path, samples: Iterable[Sample]) -> None:
    """As `samples-00000.parquet` and so on, in the order given; each file appears whole."""
    remaining = iter(samples)
    groups = iter(lambda: list(islice(remaining, GROUP_ROWS)), [])
    for shard, first in enumerate(groups):
        with (
            whole(folder / f"samples-{shard:05d}.parquet") as beside,
            pq.ParquetWriter(beside, _SCHEMA, compression="none") as writer,
        ):
            for group in chain([first], islice(groups, SHARD_ROWS // GROUP_ROWS - 1)):
                writer.write_table(pa.Table.from_pylist([_row(sample) for sample in group], schema=_SCHEMA))


def read_samples(folder: Path) -> Iterator[Sample]:
    """In the order written, without holding all of them. Raises ValueError where there are none, or one is damaged."""
    files = sorted(folder.glob("samples-*.parquet"))
    if not files:
        raise ValueError(f"{folder}: no samples-*.parquet; run the stage that writes it (dvc repro)")
    if (folder / MANIFEST).is_file():
        check_whole(folder, files)
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=GROUP_ROWS):
            for row in batch.to_pylist():
                pictures = {name: row.get(name) and row[name]["bytes"] for name in PICTURES}
                yield Sample(**row | pictures)


def _row(sample: Sample) -> dict[str, object]:
    pictures = {name: getattr(sample, name) for name in PICTURES}
    nested = {name: None if png is None else {"bytes": png, "path": None} for name, png in pictures.items()}
    return vars(sample) | nested


def mask_png(mask: UInt8[Tensor, "h w"]) -> bytes:
    """A mask (1 in the hole) as a picture, white in the hole."""
    return to_png(Image.fromarray((mask > 0).to(torch.uint8).mul(255).numpy()))


def coloured(label_map: UInt8[Tensor, "h w"]) -> UInt8[Tensor, "3 h w"]:
    """A label map in distinct colours, the same for a class in every picture; class 255 (unknown) is black."""
    return _PALETTE[label_map.long()].permute(2, 0, 1).contiguous()


def _palette() -> UInt8[Tensor, "256 3"]:
    """Each the farthest from all before it, of an even grid of colours; begun from black, which is the last one's."""
    shades = torch.linspace(0, 255, 8).round().long()
    grid = torch.cartesian_prod(shades, shades, shades)
    chosen = [0]
    distance = grid.square().sum(1)
    for _ in range(255):
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (grid - grid[chosen[-1]]).square().sum(1))
    return grid[[*chosen[1:], 0]].to(torch.uint8)


_PALETTE = _palette()
