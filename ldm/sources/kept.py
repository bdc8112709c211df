"""Parts of a data set kept until all are rendered, each with its hash: one that a disk damaged is rendered again."""

import hashlib
from pathlib import Path

import pyarrow as pa

from ldm.files import whole
from ldm.sources.splits import SIDE

_SIDES = ("x", "y", "width", "height")
_BOX = pa.struct([*((side, pa.float64()) for side in _SIDES), ("category", pa.int64())])
COLUMNS = pa.schema(
    [
        ("id", pa.string()),
        ("reason", pa.string()),  # why there is no picture; else null
        ("split", pa.string()),
        ("label", pa.string()),
        ("caption", pa.string()),
        ("licence", pa.string()),
        ("boxes", pa.list_(_BOX)),
        ("content", pa.string()),  # the hash of the pixels
        ("thumbnail", pa.binary(SIDE * SIDE * 3)),
        ("image", pa.binary()),  # PNG, as the label map
        ("label_map", pa.binary()),
    ]
)
"""A row is a candidate."""
_DIGITS = 64  # of the hash in front, which leaves Arrow's columns where they may be mapped


def keep(path: Path, part: pa.Table) -> None:
    stream = pa.BufferOutputStream()
    with pa.ipc.new_file(stream, COLUMNS) as writer:
        writer.write_table(part)
    content = stream.getvalue()
    with whole(path) as beside, beside.open("wb") as file:
        file.write(_hash(content))
        file.write(content)


def kept(path: Path) -> pa.Table | None:
    """What was kept at `path`; None where nothing was, or where it is no longer what it was."""
    try:
        file = _mapped(path)
    except FileNotFoundError:
        return None
    return _table(file) if file[:_DIGITS].to_pybytes() == _hash(file[_DIGITS:]) else None


def opened(path: Path) -> pa.Table:
    """What is known to be kept at `path`. It stays on the disk, and of it is read what is asked for."""
    return _table(_mapped(path))


def _mapped(path: Path) -> pa.Buffer:
    return pa.memory_map(str(path)).read_buffer()


def _table(file: pa.Buffer) -> pa.Table:
    return pa.ipc.open_file(file[_DIGITS:]).read_all()


def _hash(content: pa.Buffer) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
