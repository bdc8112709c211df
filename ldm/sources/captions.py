"""Pictures with a file of captions: JSON lines, or csv."""

from pathlib import Path

from ldm.sources.candidate import Found
from ldm.sources.config import Captions
from ldm.sources.joined import Facts
from ldm.sources.rows import Row, by_picture, csv_rows, found, json_lines, licence
from ldm.sources.tree import Tree


def captions(config: Captions, raw: Path) -> Found:
    tree = Tree(raw)
    is_csv = config.file.lower().endswith(".csv")
    one = "row" if is_csv else "JSON line"
    read = csv_rows if is_csv else json_lines
    rows = by_picture(config.file, read(tree, config.file, f"write it, one {one} a picture, or mend source.file"))
    if not rows:
        raise ValueError(f"{raw}/{config.file}: no captions in it; write one {one} a picture")
    facts = {
        name: Facts(caption=_caption(config, row), licence=licence(row, config.licence)) for name, row in rows.items()
    }
    return found(tree, config.file, rows, facts)


def _caption(config: Captions, row: Row) -> str:
    parts: list[str] = []
    for key in config.caption:
        value = row.values.get(key)
        if isinstance(value, str):
            parts.append(value)
        elif isinstance(value, list) and all(isinstance(word, str) for word in value):
            parts.extend(value)
        else:
            there = ", ".join(map(str, row.values))
            raise ValueError(f"{row.place}: no text at '{key}' (there is: {there}); mend source.caption")
    return ", ".join(" ".join(part.split()) for part in parts if part.strip())
