"""Pictures that differ in nothing but what is to be seen on them: same size, same encoding, same number of bytes."""

import zlib
from collections.abc import Mapping
from hashlib import shake_256

from PIL import Image

MOSAIC = 4
"""Tiles a side of the mosaic: coarse enough that nobody who looks takes it for the better picture."""

_PADDING = b"paDd"  # ancillary, private, safe to copy: decoders skip it (PNG specification, 5.4)
_CHUNK = 12  # bytes of a chunk beside its content: length, type, checksum
_IEND = _CHUNK
_FILLING = 16  # bytes at least


def enlarge(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """`image` at `size` (width, height), by nearest neighbour."""
    return image.resize(size, Image.Resampling.NEAREST)


def mosaic(image: Image.Image) -> Image.Image:
    """`image` as 4 x 4 tiles, each the mean of what it covers."""
    return image.resize((MOSAIC, MOSAIC), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


def same_length(pictures: Mapping[str, bytes]) -> dict[str, bytes]:
    """The PNGs, each filled up to the length of the longest: file sizes would tell smooth pictures from others.

    What fills them depends on their names: a host's compression does not shrink it, and the same picture under two
    names is two different files.
    """
    length = max(len(png) for png in pictures.values()) + _CHUNK + _FILLING
    return {name: _padded(name, png, length) for name, png in pictures.items()}


def _padded(name: str, png: bytes, length: int) -> bytes:
    content = shake_256(name.encode()).digest(length - len(png) - _CHUNK)
    checksum = zlib.crc32(_PADDING + content).to_bytes(4)
    padding = len(content).to_bytes(4) + _PADDING + content + checksum
    return png[:-_IEND] + padding + png[-_IEND:]
