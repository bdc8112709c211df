"""LSUN's databases, read with the `lmdb` package.

LMDB trusts its file: it is mapped into memory and followed as it is, so open only a database whose origin you trust.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ldm.sources.candidate import Found, Make, photo
from ldm.sources.config import Lmdb
from ldm.sources.joined import check_once
from ldm.sources.tree import inside


def lmdb(config: Lmdb, raw: Path) -> Found:
    """A picture's id is its key, after the database's folder."""
    folders = config.splits.given()
    check_once(raw, {split: [inside(folder, "")] for split, folder in folders.items()})
    total = 0
    for split, folder in folders.items():
        if not (raw / folder / "data.mdb").is_file():
            raise ValueError(f"{raw / folder}: no data.mdb there; mend source.splits.{split} or `raw`")
        total += _count(raw / folder)
    if not total:
        raise ValueError(f"{raw}: the database is empty; put one with pictures there")
    return Found(candidates=partial(_candidates, config, raw), total=total)


def _candidates(config: Lmdb, raw: Path) -> Iterator[Make]:
    for split, folder in config.splits.given().items():
        for key, content in _items(raw / folder):
            yield partial(photo, inside(folder, "") + _shown(key), content, split=split, licence=config.licence)


def _shown(key: bytes) -> str:
    text = key.decode(errors="replace")
    return text if text.isprintable() and "�" not in text else f"0x{key.hex()}"


def _library() -> Any:
    try:
        import lmdb as library
    except ImportError:
        raise ValueError("source.kind: lmdb needs the package lmdb; pip install lmdb") from None
    return library


def _open(path: Path) -> Any:
    return _library().open(str(path), readonly=True, lock=False, max_spare_txns=0)


def _count(path: Path) -> int:
    library = _library()
    try:
        with _open(path) as database:
            about = database.stat()
            whole = (database.info()["last_pgno"] + 1) * about["psize"]
            found = (path / "data.mdb").stat().st_size
            if found < whole:  # reading on would end the process
                raise _damaged(path, f"{found:,} bytes, of {whole:,}")
            return about["entries"]
    except library.Error as error:
        raise _damaged(path, error) from None


def _items(path: Path) -> Iterator[tuple[bytes, bytes]]:
    library = _library()
    try:
        with _open(path) as database, database.begin() as transaction:
            yield from transaction.cursor()
    except library.Error as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: object) -> ValueError:
    return ValueError(f"{path}/data.mdb: not a whole LMDB database ({' '.join(str(error).split())}); copy it again")
