"""Names of the pictures that are written, and the promise that none is written over by accident."""

from collections.abc import Sequence
from pathlib import Path


def distinct(names: Sequence[str]) -> list[str]:
    """The names, those that came before with a number behind them."""
    taken: set[str] = set()
    result = []
    for name in names:
        number, unique = 1, name
        while unique in taken:
            number += 1
            unique = f"{name}-{number}"
        taken.add(unique)
        result.append(unique)
    return result


def refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    if overwrite:
        return
    for path in paths:
        if path.exists():
            raise ValueError(f"{path}: there already; choose another --seed or --out, or say --overwrite")
