"""The files of a raw folder or archive, under one kind of name whichever it is."""

import os
import tarfile
import unicodedata
import zlib
from collections import Counter
from collections.abc import Container, Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path, PurePosixPath

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MAX_BYTES = 1 << 28


class Tree:
    """The files below `raw`: a folder, in which archives of the top level count as unpacked, or one archive.

    `names` are relative, with slashes, in Unicode's composed form and in order: the same whatever the file system.
    Hidden files are passed over. Nothing is unpacked to disk. Raises ValueError of one line where there is no `raw`,
    where a name occurs twice, or an archive is damaged or has members that lead outside of it.
    """

    def __init__(self, raw: Path):
        self.raw = raw
        if not raw.exists():
            raise ValueError(
                f"{raw}: not found; put the pictures there (`dvc pull` fetches what others added) or mend `raw`"
            )
        self._paths: dict[str, Path] = {}
        self._archives: list[Path] = []
        if raw.is_dir():
            self._walk()
        elif raw.name.endswith(ARCHIVES):
            self._archives.append(raw)
        else:
            raise ValueError(f"{raw}: neither a folder nor an archive ({', '.join(ARCHIVES)})")
        names = [*self._paths, *(name for archive in self._archives for name, _, _ in _members(archive))]
        self.names = sorted(set(names))
        if len(self.names) != len(names):
            twice = min(name for name, count in Counter(names).items() if count > 1)
            raise ValueError(
                f"{raw}: duplicate id '{twice}': it occurs twice, in archives or in a folder and an archive"
            )

    def read(self, wanted: Container[str]) -> Iterator[tuple[str, bytes]]:
        """Name and content of the files whose names are `wanted`, in no order to rely on."""
        for name, path in self._paths.items():
            if name in wanted:
                yield name, _content(path)
        for archive in self._archives:
            for name, tar, member in _members(archive):
                if name in wanted:
                    yield name, _extract(archive, name, tar, member)

    def _walk(self) -> None:
        for folder, folders, files in os.walk(self.raw):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for file in sorted(files):
                path = Path(folder, file)
                if folder == str(self.raw) and file.endswith(ARCHIVES) and not file.startswith("."):
                    self._archives.append(path)
                elif not file.startswith("."):
                    name = _name(path.relative_to(self.raw).as_posix(), self.raw)
                    if name in self._paths:
                        raise ValueError(f"{self.raw}: duplicate id '{name}': two files whose names look the same")
                    self._paths[name] = path


def _name(name: str, place: Path) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{place}: the name {name!a} is not UTF-8; rename the file") from None
    return unicodedata.normalize("NFC", name)


def _content(path: Path) -> bytes:
    try:
        _check_size(path, path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None


def _check_size(place: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"{place}: {size:,} bytes, more than {MAX_BYTES:,}; it is no picture, take it away")


def _members(archive: Path) -> Iterator[tuple[str, tarfile.TarFile, tarfile.TarInfo]]:
    with _one_line(archive), tarfile.open(archive, "r|*") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{archive}: member '{member.name}' leads outside of the archive; pack it again")
            if member.isdir() or any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
                continue
            if not member.isfile():
                raise ValueError(f"{archive}: member '{member.name}' is not a plain file; pack it again without links")
            yield _name(path.as_posix(), archive), tar, member


def _extract(archive: Path, name: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    _check_size(archive / name, member.size)
    with _one_line(archive):
        file = tar.extractfile(member)
        assert file is not None, f"{archive}: {name} is a plain file"
        return file.read()


@contextmanager
def _one_line(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zlib.error, LZMAError, EOFError, OSError) as error:
        raise ValueError(f"{archive}: corrupt or truncated archive ({' '.join(str(error).split())})") from None
