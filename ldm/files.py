"""Files that appear whole or not at all, and their hashes."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a place beside `path` to write to; when the block ends well it becomes `path`, at once and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(path.parent)
    except Exception as error:
        if no_space(error, path.parent):  # asked here, for what was written makes room when it goes
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        beside.unlink(missing_ok=True)


def no_space(error: BaseException, folder: Path) -> bool:
    """Whether a write in `folder` ended in `error` for a full disk, which not every library says by an OSError."""
    return os.strerror(errno.ENOSPC) in str(error) or shutil.disk_usage(folder).free < 64 * 1024


def write_bytes(path: Path, content: bytes) -> None:
    with whole(path) as beside:
        beside.write_bytes(content)


def write_json(path: Path, values: Any) -> None:
    """Sorted keys, two spaces, a last newline: the same values are always the same bytes."""
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path}: not found; run the stage that writes it (dvc repro)") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); delete it and run its stage again") from None


def fresh_folder(path: Path) -> Path:
    """An empty folder at `path`: what an earlier run left there is not part of this one."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, known: Mapping[str, str] | None = None) -> str:
    """List the hash of every file in `folder` in its manifest.json, the last file written; return the manifest's hash.

    A later stage names this folder by that one hash without reading it again. `known`: hashes, by path in `folder`, of
    files that need not be read for it.
    """
    known = known or {}
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    names = {p.relative_to(folder).as_posix(): p for p in paths}
    write_json(folder / MANIFEST, {name: known.get(name) or sha256(p) for name, p in names.items()})
    return sha256(folder / MANIFEST)


def identity(folder: Path) -> str:
    """The hash by which a folder with a manifest is known.

    Its JSON files, which say what the others mean, are compared with the manifest here; the others by who reads them.
    """
    if not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder}: incomplete or missing (no {MANIFEST}); run the stage that writes it (dvc repro)")
    check_whole(folder, [folder / name for name in read_json(folder / MANIFEST) if name.endswith(".json")])
    return sha256(folder / MANIFEST)


def check_whole(folder: Path, paths: Iterable[Path]) -> None:
    """Raises ValueError at a file that is not the one which the manifest of `folder` lists: bits flip on disks."""
    listed = read_json(folder / MANIFEST)
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{path}: missing, though {MANIFEST} lists it; delete {folder} and run dvc repro")
        about = path.stat()
        if listed.get(path.relative_to(folder).as_posix()) != _sha256_as_of(path, about.st_size, about.st_mtime_ns):
            raise ValueError(f"{path}: damaged, its hash is not that in {MANIFEST}; delete {folder} and run dvc repro")


@cache
def _sha256_as_of(path: Path, size: int, changed: int) -> str:
    """Read once in a process, for a stage opens a folder more than once; a file of another size or time is another."""
    return sha256(path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
