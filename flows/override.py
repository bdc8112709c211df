"""Set values in params.yaml from the command line: what is named changes, every other character of the file stays."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from ldm.autoencoder.config import Autoencoder, Latents
from ldm.config import Run, load, lookup, section
from ldm.diffusion.config import Diffusion
from ldm.evaluation.config import AutoencoderEvaluation, Reference, SampleEvaluation
from ldm.files import write_bytes
from ldm.sampling.config import Method, Samples
from ldm.sources.config import Dataset
from ldm.study.config import Study

TABLES: dict[str, type[BaseModel]] = {
    "datasets": Dataset,
    "autoencoders": Autoencoder,
    "latents": Latents,
    "diffusion": Diffusion,
    "samples": Samples,
    "methods": Method,
    "evaluation.references": Reference,
    "evaluation.autoencoders": AutoencoderEvaluation,
    "evaluation.samples": SampleEvaluation,
    "studies": Study,
}
"""What the names of each table in params.yaml are; `run` alone is no table but a section."""


def override(assignments: Sequence[str], file: Path = Path("params.yaml")) -> list[str]:
    """Write each `KEY=VALUE` into `file`, at once; a line about each, with its place in the file.

    Nothing is written, and a ValueError says why, where a key is not there or a section would no longer be valid.
    """
    before = after = load(file)
    text, told = file.read_bytes().decode(), []
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"-S {assignment}: expected KEY=VALUE, such as -S run.threads=2")
        old = lookup(after, key, file=str(file))
        text, line, after = _replaced(text, after, key, value.strip(), file)
        told.append(f"{file}, line {line}: {key}: {old} -> {lookup(after, key)}")
    _check(before, after, str(file))
    write_bytes(file, text.encode())
    return told


def _replaced(text: str, values: dict[str, Any], key: str, value: str, file: Path) -> tuple[str, int, dict[str, Any]]:
    """`text` with the value at `key` written as `value`, the line it stands on, and all its values as read again.

    Read again, only that one value may differ: that is how text that YAML takes for more than a value is refused.
    """
    node = _written_at(text, key, file)
    replaced = text[: node.start_mark.index] + value + text[node.end_mark.index :]
    try:
        expected = _with(values, key.split("."), YAML(typ="safe", pure=True).load(value))
        found = YAML(typ="safe", pure=True).load(replaced)
    except YAMLError:
        expected, found = {}, None
    if found != expected:
        hint = f"text goes in quotes, -S '{key}=\"...\"', and what entries share (&, *) is edited by hand"
        raise ValueError(f"-S {key}={value}: not one YAML value; {hint}")
    return replaced, node.start_mark.line + 1, found


def _with(values: dict[str, Any], place: list[str], value: Any) -> dict[str, Any]:
    """`values` with `value` at `place` and nowhere else, also where entries are the same object."""
    first, *rest = place
    return {**values, first: _with(values[first], rest, value) if rest else value}


def _written_at(text: str, key: str, file: Path) -> Node:
    """Where the value of the dotted `key` stands in `text`."""
    node: Any = YAML(pure=True).compose(text)
    for part in key.split("."):
        entries = node.value if isinstance(node, MappingNode) else []
        node = next((value for name, value in entries if name.value == part), None)
    if node is None:
        raise ValueError(f"{file}: {key}: taken over from another entry; edit that one")
    if not isinstance(node, ScalarNode) and not node.flow_style:
        raise ValueError(f"-S {key}: more than one value; name one below it: {key}.{_first(node)}")
    return node


def _first(node: Node) -> str:
    return str(node.value[0][0].value) if isinstance(node, MappingNode) and node.value else "..."


def _check(before: dict[str, Any], after: dict[str, Any], file: str) -> None:
    """Refuse sections that differ from `before` and are not what their class takes."""
    if after["run"] != before["run"]:
        section(after, Run, "run", file=file)
    for place, cls in TABLES.items():
        table, old = lookup(after, place, file=file), lookup(before, place, file=file)
        for name in table:
            if table[name] != old.get(name):
                section(after, cls, f"{place}.{name}", file=file)
