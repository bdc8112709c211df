"""A folder of pictures made elsewhere, matched by name to the originals that they were made for."""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
"""Of the pictures in such a folder."""
_ORIGINALS = (*ENDINGS, ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
"""Of files that an original's id may be the name of."""


def matched(folder: Path, ids: Sequence[str]) -> dict[str, Path]:
    """The picture of each original that has one, by the original's id.

    A picture's name, its ending left off, is an id (which may have folders, as the picture then has, and an ending), or
    else an id's last part. Hidden files and files that are no pictures are passed over. Raises ValueError of one line
    where a picture fits no original or several, or an original has two.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: {'not a folder' if folder.exists() else 'not found'}; put the pictures there")
    ids = list(dict.fromkeys(ids))
    whole, last = _named(ids, str), _named(ids, lambda name: PurePosixPath(name).name)
    found: dict[str, list[str]] = {}
    unknown, unsure, paths = list[str](), list[str](), dict[str, Path]()
    for path in _pictures(folder):
        shown = path.relative_to(folder).as_posix()
        name = unicodedata.normalize("NFC", shown)[: -len(path.suffix)]
        originals = whole.get(name) or last.get(PurePosixPath(name).name, [])
        if len(originals) == 1:
            found.setdefault(originals[0], []).append(shown)
            paths[shown] = path
        else:
            (unsure if originals else unknown).append(shown)
    if not (found or unknown or unsure):
        raise ValueError(
            f"{folder}: no pictures there ({', '.join(ENDINGS)}); name each after its original: {few(ids)}"
        )
    if unknown:
        raise ValueError(
            f"{folder}: {len(unknown)} pictures fit no original of the split: {few(unknown)}; name each after its "
            f"original ({few(ids)}), or take them out"
        )
    if unsure:
        raise ValueError(
            f"{folder}: {len(unsure)} pictures fit several originals: {few(unsure)}; put them in folders as the "
            "originals' ids are"
        )
    if twice := [names for names in found.values() if len(names) > 1]:
        raise ValueError(
            f"{folder}: {len(twice)} originals have more than one picture: {' and '.join(twice[0])}; keep one of each"
        )
    return {id: paths[name] for id, (name,) in found.items()}


def few(names: Iterable[str], most: int = 3) -> str:
    """The first few of `names`, and how many more there are.

    >>> few(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _named(ids: Sequence[str], part: Callable[[str], str]) -> Mapping[str, list[str]]:
    """The originals that a name fits: their `part`, with its ending or without."""
    fitting: dict[str, list[str]] = {}
    for id in ids:
        name = part(id)
        suffix = PurePosixPath(name).suffix
        short = name[: -len(suffix)] if suffix.lower() in _ORIGINALS else name
        for spelling in {name, short}:
            fitting.setdefault(spelling, []).append(id)
    return fitting


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
