"""The files of a raw folder or archive, under one kind of name whichever it is."""

import io
import os
import tarfile
import tempfile
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Container, Iterator, Set
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import IO, Self

from ldm.sources.text import breaks_lines

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MAX_BYTES = 1 << 28
MAX_ANNOTATIONS = 1 << 32
MAX_UNPACKED = 1 << 34
"""What an archive may unpack to, if that is more than `_RATIO` times its size: no small file keeps a machine busy."""
_RATIO = 100
_MAX_HEADER = 1 << 20  # of what a tar says of a member beside its content, such as a long name
_ABOUT_THE_NEXT = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
)  # fmt: skip


class Tree:
    """The files below `raw`: a folder, in which archives of the top level count as unpacked, or one archive.

    `names` are relative, with slashes, in Unicode's composed form and in order: the same whatever the file system.
    Hidden files are passed over. Nothing is unpacked to disk. A link to a file is that file (DVC makes such links); one
    to a folder is refused, for DVC would not see what is behind it. Raises ValueError of one line where there is no
    `raw`, where a name occurs twice or breaks a line, or an archive is damaged or has members that lead outside of it.
    """

    def __init__(self, raw: Path):
        self.raw = raw
        if not raw.exists():
            raise ValueError(
                f"{raw}: not found; put the pictures there (`dvc pull` fetches what others added) or mend `raw`"
            )
        self._paths: dict[str, Path] = {}
        self._archives: dict[Path, list[str]] = {}
        if raw.is_dir():
            self._walk()
        elif raw.name.endswith(ARCHIVES):
            self._archives[raw] = []
        else:
            raise ValueError(f"{raw}: neither a folder nor an archive ({', '.join(ARCHIVES)})")
        for archive in self._archives:
            self._archives[archive] = [name for name, _, _ in members(archive)]
        names = [*self._paths, *(name for inside in self._archives.values() for name in inside)]
        self.names = sorted(set(names))
        if len(self.names) != len(names):
            twice = min(name for name, count in Counter(names).items() if count > 1)
            raise ValueError(
                f"{raw}: duplicate id '{twice}': it occurs twice, in archives or in a folder and an archive"
            )

    def read(self, wanted: Container[str]) -> Iterator[tuple[str, Callable[[], bytes | str]]]:
        """Name and content of the files whose names are `wanted`, in an order that follows from names and archives.

        A file of its own is read when its content is asked for. A text in place of it says why that cannot be.
        """
        for name, path in self._paths.items():
            if name in wanted:
                yield name, partial(_content, path)
        for archive, names in self._archives.items():
            if any(name in wanted for name in names):
                for name, tar, member in members(archive):
                    if name in wanted:
                        yield name, partial(_same, extract(archive, tar, member))

    def reader(self, wanted: Set[str]) -> Callable[[str], bytes | str]:
        """The content of any of the files `wanted` by name, in any order; a text says why it cannot be read.

        What lies in archives is copied to a scratch file at once: it belongs to pictures that come in another order.
        """
        packed = wanted - self._paths.keys()
        places: dict[str, tuple[int, int] | str] = {}
        spool = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the reader)
        for name, read_packed in self.read(packed) if packed else ():
            content = read_packed()
            places[name] = content if isinstance(content, str) else (spool.tell(), spool.write(content))

        def read(name: str) -> bytes | str:
            if name in self._paths:
                return _content(self._paths[name])
            place = places[name]
            if isinstance(place, str):
                return place
            start, size = place
            return os.pread(spool.fileno(), size, start)  # several threads may ask

        spool.flush()
        return read

    def open(self, name: str, mending: str) -> IO[bytes]:
        """A file of annotations, which may be larger than a picture; ValueError with the `mending` where there is none.

        One in an archive is read into memory.
        """
        if name in self._paths:
            file = _opened(self._paths[name], MAX_ANNOTATIONS)
            if isinstance(file, str):
                raise ValueError(f"{self._paths[name]}: {file}")
            return file
        if name not in self.names:
            raise ValueError(f"{self.raw}/{name}: not found; {mending}")
        for archive, names in self._archives.items():
            if name in names:
                for inside, tar, member in members(archive):
                    if inside == name:
                        content = extract(archive, tar, member, MAX_ANNOTATIONS)
                        if isinstance(content, str):
                            raise ValueError(f"{archive}/{name}: {content}")
                        return io.BytesIO(content)
        raise ValueError(f"{self.raw}/{name}: changed while it was read; start again")

    def text(self, name: str, mending: str) -> str:
        """The same as text: UTF-8, a byte order mark passed over."""
        with self.open(name, mending) as file:
            content = file.read()
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.raw}/{name}: not UTF-8 at byte {error.start}; save it as UTF-8") from None

    def _walk(self) -> None:
        for folder, folders, files in os.walk(self.raw):
            folders[:] = sorted(_own(folder, folders), key=_composed)
            for file in sorted(files, key=_composed):
                path = Path(folder, file)
                if folder == str(self.raw) and file.endswith(ARCHIVES) and not file.startswith("."):
                    self._archives[path] = []
                elif not file.startswith("."):
                    name = _name(path.relative_to(self.raw).as_posix(), self.raw)
                    if name in self._paths:
                        raise ValueError(f"{self.raw}: duplicate id '{name}': two files whose names look the same")
                    self._paths[name] = path


def matching(raw: Path, pattern: str) -> list[tuple[str, Path]]:
    """Name and path of the files below `raw` whose names match, in order of name; ValueError where none does.

    Their content is not looked at, so an archive here is one file.
    """
    if not raw.is_dir():
        raise ValueError(f"{raw}: {'not a folder' if raw.exists() else 'not found'}; put the files there or mend `raw`")
    found = {}
    for folder, folders, files in os.walk(raw):
        folders[:] = _own(folder, folders)
        for file in files:
            path = Path(folder, file)
            if not file.startswith(".") and fnmatchcase(name := _name(path.relative_to(raw).as_posix(), raw), pattern):
                if not path.is_file():
                    raise ValueError(f"{path}: {_NO_FILE}; take it away or mend source.splits")
                found[name] = path
    if not found:
        raise ValueError(f"{raw}: no file matches '{pattern}'; put the files there or mend source.splits")
    return sorted(found.items())


def below(names: list[str], folder: str) -> list[str]:
    """Those of `names` that lie in `folder` or deeper; `.`: all."""
    prefix = inside(folder, "")
    return [name for name in names if name.startswith(prefix)]


def inside(folder: str, name: str) -> str:
    """`name` in `folder` as a Tree names it."""
    place = _composed(PurePosixPath(folder, name).as_posix())
    return place if name else "" if place == "." else f"{place}/"


_NO_FILE = "a broken link, a pipe or a device, not a file"


def _own(folder: str, folders: list[str]) -> list[str]:
    own = [name for name in folders if not name.startswith(".")]
    for name in own:
        if (path := Path(folder, name)).is_symlink():
            raise ValueError(f"{path}: a link to a folder, behind which DVC does not look; put the folder itself there")
    return own


def _name(name: str, place: Path) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{place}: the name {name!a} is not UTF-8; rename the file") from None
    if breaks_lines(name):
        raise ValueError(f"{place}: the name {name!a} has a line break or a control character in it; rename the file")
    return _composed(name)


_composed = partial(unicodedata.normalize, "NFC")


def _same(content: bytes | str) -> bytes | str:
    return content


def _content(path: Path) -> bytes | str:
    file = _opened(path, MAX_BYTES)
    if isinstance(file, str):
        return file
    with file:
        return file.read()


def _opened(path: Path, largest: int) -> IO[bytes] | str:
    """A text says why it cannot be; nothing but a file is opened, for a pipe would keep us waiting."""
    try:
        about = path.stat()
        if not S_ISREG(about.st_mode):
            return _NO_FILE
        return _too_large(about.st_size, largest) or path.open("rb")
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _too_large(size: int, largest: int) -> str | None:
    return f"{size:,} bytes, more than {largest:,}" if size > largest else None


class _Member(tarfile.TarInfo):
    """A header that cannot make tarfile fill the memory, nor go round in circles."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _ABOUT_THE_NEXT and header.size > _MAX_HEADER):
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header


def members(archive: Path, mode: str = "r|*") -> Iterator[tuple[str, tarfile.TarFile, tarfile.TarInfo]]:
    """Name, archive and member of each plain file; ValueError of one line at damage, at links and at names outside."""
    unpacked, most = 0, max(MAX_UNPACKED, _RATIO * archive.stat().st_size)
    with _one_line(archive), tarfile.open(archive, mode, tarinfo=_Member) as tar:  # type: ignore[call-overload]
        for member in tar:
            tar.members.clear()  # else it keeps them all
            path = PurePosixPath(member.name)
            unpacked += member.size
            if member.size < 0 or unpacked > most:
                raise ValueError(
                    f"{archive}: claims {unpacked:,} bytes unpacked, more than {most:,}; pack less into it"
                )
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{archive}: member {member.name!a} leads outside of the archive; pack it again")
            if member.isdir() or any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
                continue
            if not member.isfile() or member.issparse():
                raise ValueError(f"{archive}: member {member.name!a} is not a plain file; pack it again without links")
            yield _name(path.as_posix(), archive), tar, member


def extract(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, largest: int = MAX_BYTES) -> bytes | str:
    """A text says why there is no content; ValueError where the archive is damaged."""
    if reason := _too_large(member.size, largest):
        return reason
    with _one_line(archive):
        file = tar.extractfile(member)
        assert file is not None, f"{archive}: {member.name} is a plain file"
        return file.read()


@contextmanager
def _one_line(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zlib.error, LZMAError, EOFError, OSError) as error:
        raise ValueError(f"{archive}: corrupt or truncated archive ({' '.join(str(error).split())})") from None
