"""The resume key: a hash of everything that a stage's outputs are a function of, as dvc.yaml declares it.

State of an interrupted stage lies in `.resume/STAGE/NAME/KEY`, so whatever is changed in between (a parameter, a line
of code, a picture, a library's version) leads to another folder, and can never be mixed with the old state. dvc.yaml is
read as YAML: this works where DVC is not installed.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ldm.config import load, lookup
from ldm.files import MANIFEST, sha256

PINS = Path("constraints-numeric.txt")
NOT_CONTENT = {"__pycache__", ".gitignore", ".gitkeep"}
"""Names that .dvcignore leaves out too."""


@contextmanager
def resume_folder(stage: str, name: str) -> Iterator[Path]:
    """A folder for the state of this stage with these inputs, kept when the block fails or is stopped.

    When it ends well the stage is complete, so every state of it, of these inputs or older ones, is removed: by the
    first process, where several share the stage.
    """
    states = Path(".resume", stage, name)
    folder = states / key(stage, name)
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    if os.environ.get("RANK", "0") == "0":
        shutil.rmtree(states)


def key(stage: str, name: str) -> str:
    """16 hexadecimal digits that differ where any input of `stage` of `name` does."""
    declared, params = declaration(stage, name), load()
    inputs = {
        "deps": {path: _content(Path(path)) for path in declared.get("deps", [])},
        "params": {place: lookup(params, place) for place in declared.get("params", [])},
        "versions": numeric_versions(),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def declaration(stage: str, name: str) -> dict[str, Any]:
    """What dvc.yaml says of `stage`, with `${key}` and `${item...}` of its `foreach` filled in for `name`."""
    entry = load("dvc.yaml")["stages"][stage]
    if "foreach" not in entry:
        return entry
    table = lookup(load(), entry["foreach"].removeprefix("${").removesuffix("}"))
    return _fill(entry["do"], {"key": name, "item": table[name]})


def numeric_versions() -> dict[str, str]:
    """Installed versions of the packages whose version can change the bytes of an output."""
    return {name: _version(name) for name in re.findall(r"^([\w.-]+)==", PINS.read_text(), flags=re.MULTILINE)}


def _fill(node: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(node, dict):
        return {_fill(k, values): _fill(v, values) for k, v in node.items()}
    if isinstance(node, list):
        return [_fill(v, values) for v in node]
    if isinstance(node, str):
        return re.sub(r"\$\{([^}]+)\}", lambda match: str(lookup(values, match[1])), node)
    return node


def _content(path: Path) -> str:
    if path.is_file():
        return sha256(path)
    if not path.is_dir():
        raise ValueError(f"{path}: not found; bring it there, or run the stage that writes it (dvc repro)")
    if (path / MANIFEST).is_file():
        return sha256(path / MANIFEST)
    files = sorted(p for p in path.rglob("*") if p.is_file() and not NOT_CONTENT & set(p.parts))
    listing = {p.relative_to(path).as_posix(): sha256(p) for p in files}
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
