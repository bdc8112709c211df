"""Label maps as files, and the names of their classes."""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from ldm.data.pictures import read_labels
from ldm.sources.tree import Tree

Names = tuple[str | None, ...]
"""A name for each id; None where there is none."""
_NUMBERED = re.compile(r"(\d+)\s*[:,\t]\s*(.+)")


def read_map(content: bytes, shift: int, names: Names | None) -> Image.Image:
    """The label map in a PNG, mode L: the bytes of its pixels as they are (indices of a palette too) plus `shift`.

    `shift` is modulo 256: with 1 a map whose 255 is unlabelled has 0 there. Raises ValueError, saying what is wrong.
    """
    try:
        labels = read_labels(content)
    except ValueError as error:
        raise ValueError(f"its label map: {error}") from None
    labels = labels + np.uint8(shift)
    if names is not None:
        _check(labels, names)
    return Image.fromarray(labels)


def _check(labels: np.ndarray, names: Names) -> None:
    known = np.zeros(256, bool)
    known[: len(names)] = [name is not None for name in names]
    unknown = np.flatnonzero((np.bincount(labels.reshape(-1), minlength=256) > 0) & ~known)
    if len(unknown):
        raise ValueError(f"its label map has class {unknown[0]}, for which label_map_classes has no name")


def class_names(tree: Tree, file: str) -> Names:
    """The names in `file`: a JSON list, JSON {id: name}, or text, a line each: `NAME` or `ID: NAME`.

    Where ids are given and 0 has no name, it is `unlabelled`. Raises ValueError of one line.
    """
    place = f"{tree.raw}/{file}"
    text = tree.text(file, "write the names of the label maps' classes there or mend source.label_map_classes")
    if file.lower().endswith(".json"):
        names = _from_json(text, place)
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        numbered = [_NUMBERED.fullmatch(line) for line in lines]
        if all(match is not None for match in numbered):
            names = _by_id({match[1]: match[2] for match in numbered if match}, place)
        else:
            names = tuple(lines)
    if not 0 < len(names) <= 256:
        raise ValueError(f"{place}: {len(names)} names; a label map has 1 to 256 classes")
    return names


def _from_json(text: str, place: str) -> Names:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: not valid JSON: {error}") from None
    if isinstance(values, list) and all(isinstance(name, str) for name in values):
        return tuple(values)
    if isinstance(values, dict):
        return _by_id(values, place)
    raise ValueError(f'{place}: expected a list of names or {{"1": "person", ...}}')


def _by_id(values: Mapping[str, Any], place: str) -> Names:
    names = {}
    for key, name in values.items():
        if not (key.isascii() and key.isdecimal() and len(key) <= 4 and int(key) < 256 and isinstance(name, str)):
            raise ValueError(f"{place}: '{key}': expected an id from 0 to 255 and a name")
        names[int(key)] = name
    names.setdefault(0, "unlabelled")
    return tuple(names.get(id) for id in range(max(names) + 1))


def shown(names: Names) -> tuple[str, ...]:
    """A name for each id, as dataset.json lists them."""
    return tuple(f"unnamed {id}" if name is None else name for id, name in enumerate(names))
