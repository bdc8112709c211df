"""Pictures from the user's files: a folder, class folders, or a folder with captions."""

import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from PIL import Image

from ldm.data import pictures
from ldm.sources.candidate import Candidate
from ldm.sources.config import Captions, ClassFolders, Folder
from ldm.sources.tree import Tree

EXTENSIONS = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
_GIVEN = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}


def picture_names(tree: Tree) -> list[str]:
    """The pictures of a tree, known by their extension; ValueError where there is none."""
    names = [name for name in tree.names if name.lower().endswith(EXTENSIONS)]
    if not names:
        found = f"{len(tree.names)} other files" if tree.names else "it is empty"
        raise ValueError(f"{tree.raw}: no pictures there ({found}); put {', '.join(EXTENSIONS)} files into it")
    return names


def folder(config: Folder, tree: Tree) -> Iterator[Candidate]:
    names = picture_names(tree)
    splits = _given_splits(tree, names) if config.given_splits else {}
    for name, content in tree.read(set(names)):
        yield _photo(name, content, split=splits.get(name), licence=config.licence)


def class_folders(config: ClassFolders, tree: Tree) -> Iterator[Candidate]:
    """The label is the name of the folder that a picture lies in."""
    names = picture_names(tree)
    splits = _given_splits(tree, names) if config.given_splits else {}
    labels = {name: PurePosixPath(name).parent.name for name in names}
    for name, label in labels.items():
        if not label or (config.given_splits and label.lower() in _GIVEN):
            raise ValueError(f"{tree.raw}: '{name}' lies in no class folder; move it into one named after its class")
    if len(set(labels.values())) < 2:
        raise ValueError(f"{tree.raw}: all pictures are of one class, '{labels[names[0]]}'; say source.kind: folder")
    for name, content in tree.read(set(names)):
        yield _photo(name, content, split=splits.get(name), label=labels[name], licence=config.licence)


def captions(config: Captions, tree: Tree) -> Iterator[Candidate]:
    names = picture_names(tree)
    lines = _captions(config, tree)
    missing = sorted(lines.keys() - set(names), key=lambda name: lines[name].number)
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"{lines[missing[0]].place}: no picture '{missing[0]}' in {tree.raw}{more}; mend the line")
    for name, content in tree.read(set(names)):
        if name in lines:
            yield _photo(name, content, caption=lines[name].caption, licence=lines[name].licence)
        else:
            yield Candidate(id=name, picture=partial(_uncaptioned, config.file))


@dataclass(frozen=True)
class _Line:
    place: str
    number: int
    caption: str
    licence: str


def _captions(config: Captions, tree: Tree) -> dict[str, _Line]:
    """What the caption file says of each picture, by the picture's name in the tree."""
    path = f"{tree.raw}/{config.file}"
    if config.file not in tree.names:
        raise ValueError(f"{path}: not found; write it, one JSON line a picture, or mend source.file")
    [(_, content)] = tree.read({config.file})
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    lines: dict[str, _Line] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        values = _json(line, place)
        file = values.get("file", values.get("file_name"))
        if not isinstance(file, str):
            raise ValueError(f"{place}: no 'file' that names the picture (there is: {', '.join(values) or 'nothing'})")
        name = unicodedata.normalize("NFC", (PurePosixPath(config.file).parent / file).as_posix())
        if name in lines:
            raise ValueError(f"{place}: duplicate id '{name}', first on line {lines[name].number}; keep one")
        licence = values.get("licence") or values.get("license") or values.get("attribution") or config.licence
        lines[name] = _Line(place, number, _caption(config, values, place), str(licence))
    if not lines:
        raise ValueError(f"{path}: no captions in it; write one JSON line a picture")
    return lines


def _json(line: str, place: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place}: not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f'{place}: expected an object such as {{"file": "1.jpg", "caption": "..."}}')
    return values


def _caption(config: Captions, values: Mapping[str, Any], place: str) -> str:
    parts: list[str] = []
    for key in config.caption:
        value = values.get(key)
        if isinstance(value, str):
            parts.append(value)
        elif isinstance(value, list) and all(isinstance(word, str) for word in value):
            parts.extend(value)
        else:
            raise ValueError(f"{place}: no text at '{key}' (there is: {', '.join(values)}); mend source.caption")
    return ", ".join(" ".join(part.split()) for part in parts if part.strip())


def _given_splits(tree: Tree, names: list[str]) -> dict[str, str]:
    splits: dict[str, str] = {}
    for name in names:
        given = [_GIVEN[part.lower()] for part in PurePosixPath(name).parent.parts if part.lower() in _GIVEN]
        if not given:
            raise ValueError(
                f"{tree.raw}: '{name}' is in no folder named {', '.join(_GIVEN)}; move it or say given_splits: false"
            )
        splits[name] = given[0]
    return splits


def _photo(name: str, content: bytes, **known: Any) -> Candidate:
    return Candidate(id=name, picture=partial(_decoded, content), **known)


def _decoded(content: bytes, size: int) -> tuple[Image.Image, None]:
    return pictures.square(pictures.read(content), size), None


def _uncaptioned(file: str, size: int) -> tuple[Image.Image, None]:
    raise ValueError(f"no line in {file}")
