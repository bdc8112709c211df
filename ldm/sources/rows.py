"""Files with one row a picture: JSON lines and csv."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import PurePosixPath
from typing import Any

from ldm.sources.candidate import Found
from ldm.sources.joined import NO_MAPS, Facts, candidates, picture_names
from ldm.sources.tree import Tree, inside

_FILE = ("file", "file_name", "filename")
_HUGE = 1e9
_LICENCE = ("licence", "license", "attribution")


@dataclass(frozen=True)
class Row:
    """`place` is what an error names: the file and the line."""

    place: str
    values: Mapping[str, Any]


def json_lines(tree: Tree, file: str, mending: str) -> Iterator[Row]:
    for number, line in enumerate(StringIO(tree.text(file, mending)), 1):
        if line.strip():
            place = f"{tree.raw}/{file}, line {number}"
            values = parsed(line, place)
            if not isinstance(values, dict):
                raise ValueError(f'{place}: expected an object such as {{"file": "1.jpg", ...}}')
            if values.keys() >= {"images", "annotations"}:
                raise ValueError(f"{place}: these are COCO's annotations; say source.kind: coco")
            yield Row(place, values)


def csv_rows(tree: Tree, file: str, mending: str) -> Iterator[Row]:
    reader = csv.reader(StringIO(tree.text(file, mending), newline=""), strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            place = f"{tree.raw}/{file}, line {reader.line_num}"
            if not header:
                header = [cell.strip() for cell in cells]
            elif len(cells) == len(header):
                yield Row(place, dict(zip(header, cells, strict=True)))
            elif cells:
                raise ValueError(
                    f"{place}: {len(cells)} cells under {len(header)} columns; put text that holds commas in quotes"
                )
    except csv.Error as error:
        raise ValueError(f"{tree.raw}/{file}, line {reader.line_num}: not valid csv: {error}") from None


def parsed(text: str, place: str) -> Any:
    """JSON, in which NaN and infinities are mistakes."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: not valid JSON: {' '.join(str(error).split())}") from None


def is_number(value: Any) -> bool:
    """A size or a place in pixels: no NaN, and nothing that overflows."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _HUGE


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def by_picture(file: str, rows: Iterable[Row]) -> dict[str, Row]:
    """Each row under the name that its picture has in the tree."""
    found: dict[str, Row] = {}
    for row in rows:
        name = next((row.values[key] for key in _FILE if row.values.get(key)), None)
        if not isinstance(name, str):
            there = ", ".join(map(str, row.values)) or "nothing"
            raise ValueError(f"{row.place}: no 'file' that names the picture (there is: {there})")
        name = inside(PurePosixPath(file).parent.as_posix(), name)
        if name in found:
            first = found[name].place.rpartition(", ")[2]
            raise ValueError(f"{row.place}: duplicate id '{name}', first on {first}; keep one")
        found[name] = row
    return found


def licence(row: Row, otherwise: str) -> str:
    return str(next((row.values[key] for key in _LICENCE if row.values.get(key)), otherwise))


def found(tree: Tree, file: str, rows: Mapping[str, Row], facts: Mapping[str, Facts], **known: Any) -> Found:
    """The pictures of the tree with the facts of their rows; a row without picture is a mistake."""
    names = picture_names(tree)
    there = set(names)
    lost = [name for name in rows if name not in there]
    if lost:
        more = f", and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise ValueError(f"{rows[lost[0]].place}: no picture '{lost[0]}' in {tree.raw}{more}; mend the line")

    def of(name: str) -> Facts | str:
        return facts.get(name, f"no line in {file}")

    return Found(candidates=partial(candidates, tree, of, names, NO_MAPS), total=len(names), **known)
