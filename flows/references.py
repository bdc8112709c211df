"""Rows of params.yaml that name another row, or a folder, which is not there: said before DVC misses a file."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ldm.config import load, lookup

NAMED = re.compile(r"(?P<folder>(?!ldm/)[^$]+)/\$\{item\.(?P<key>\w+)\}")
"""A dependency of dvc.yaml that a row names by one of its keys; code is not named so, but by kinds of condition."""


def check(stages: Iterable[tuple[str, str]], folder: Path = Path()) -> None:
    """Raise a ValueError of one line where a row of these (stage, name) refers to what neither is a row nor is there.

    `folder` is the project's. What else may be wrong with a row is its stage's to say.
    """
    if not (folder / "dvc.yaml").is_file():  # which says where names lead; a stage runs without it too
        return
    params, dvc = load(folder / "params.yaml"), load(folder / "dvc.yaml")["stages"]
    tables = {stage: entry["foreach"][2:-1] for stage, entry in dvc.items() if "foreach" in entry}
    for stage, name in stages:
        row = _row(params, tables[stage], name) if stage in tables else {}
        for found in filter(None, map(NAMED.fullmatch, dvc[stage]["do"]["deps"] if row else ())):
            place, key = found["folder"], found["key"]
            value = row.get(key)
            known = {*_made(params, dvc, tables, place), *_there(folder / place)}
            if isinstance(value, str) and value not in known:
                near = difflib.get_close_matches(value, sorted(known), n=1)
                hint = f", did you mean '{near[0]}'?" if near else f" (there is: {', '.join(sorted(known))})"
                raise ValueError(f"params.yaml: {tables[stage]}.{name}.{key}: no '{value}' in {place}{hint}")


def _row(params: Mapping[str, Any], table: str, name: str) -> Mapping[str, Any]:
    try:
        row = lookup(params, f"{table}.{name}")
    except ValueError:
        return {}
    return row if isinstance(row, Mapping) else {}


def _made(params: Mapping[str, Any], dvc: Mapping[str, Any], tables: Mapping[str, str], place: str) -> Iterator[str]:
    """Names of the rows whose stages write a folder in `place`."""
    for stage, table in tables.items():
        if f"{place}/${{key}}" in dvc[stage]["do"].get("outs", ()):
            yield from map(str, lookup(params, table) or ())


def _there(place: Path) -> Iterator[str]:
    """Names of folders that are there, or that DVC would fetch."""
    for path in place.glob("*"):
        if path.is_dir() or path.suffix == ".dvc":
            yield path.name.removesuffix(".dvc")
