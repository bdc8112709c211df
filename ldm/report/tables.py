"""What a table of the page is made of."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Cell:
    value: str
    interval: str = ""
    """The 95 % interval of the value."""
    beside: str = ""
    """A floor, a spread or a ceiling that belongs to the value."""


@dataclass(frozen=True, kw_only=True)
class Row:
    words: str
    beside: str = ""
    """Which way is better, or how it was made."""
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    measured: tuple[Row, ...] = ()
    """How the figures of each column were measured."""
    notes: tuple[str, ...] = ()
    """What to beware of when reading them."""
