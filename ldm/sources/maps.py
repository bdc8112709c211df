"""Label maps as files, and the names of their classes."""

import io
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from ldm.data.pictures import MAX_PIXELS
from ldm.sources.tree import Tree

Names = tuple[str | None, ...]
"""A name for each id; None where there is none."""
_NUMBERED = re.compile(r"(\d+)\s*[:,\t]\s*(.+)")


def read_map(content: bytes, shift: int, names: Names | None) -> Image.Image:
    """The label map in a PNG, mode L: the bytes of its pixels as they are (indices of a palette too) plus `shift`.

    `shift` is modulo 256: with 1 a map whose 255 is unlabelled has 0 there. Raises ValueError, saying what is wrong.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=("PNG",))
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"its label map has {image.width} x {image.height}, more than {MAX_PIXELS:,} pixels")
        if image.mode not in ("L", "P"):
            raise ValueError(f"its label map has mode {image.mode}; save it as PNG with one byte a pixel, its class")
        labels = np.asarray(image)
    except Image.UnidentifiedImageError:
        raise ValueError("its label map is not a PNG") from None
    except (
        OSError,
        SyntaxError,
        EOFError,
        OverflowError,
        TypeError,
        IndexError,
        Image.DecompressionBombError,
    ) as error:
        raise ValueError(f"its label map is corrupt or truncated ({' '.join(str(error).split())})") from None
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
