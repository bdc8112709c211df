"""Whatever stands in params.yaml, reading it and each of its sections works or says in one line why not."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.override import TABLES
from ldm.config import Run, load, section
from tests.damage import ROOT, changed, damaged, few, works_or_says_why

PRESETS = [load(path) for path in sorted((ROOT / "presets").glob("*.yaml"))]
SYNTAX = ["[", "{", "&a ", "*a", "&a [*a]", "<<: *a", "? ", "- ", "\t", '"', "|", "---\n", "%YAML 3.0\n", "!!int z",
          "!!python/object/apply:os.system [id]", "!!timestamp 2020-99-99", "!!binary x", "!!set {a}", "2020-13-45",
          "9" * 5000, "[" * 2000, "{a: " * 2000, "\0", "\ufeff", ".inf", "\u2028"]  # fmt: skip


def rows(table: str) -> list[Any]:
    """Of a table, the rows of all presets."""
    found: list[Any] = []
    for values in PRESETS:
        for key in table.split("."):
            values = values[key]
        found += [values] if table == "run" else values.values()
    return found


@pytest.mark.parametrize("table", ["run", *TABLES])
def test_damaged_sections(table):
    known = rows(table)
    place = table if table == "run" else f"{table}.x"

    @few
    @given(st.data())
    def try_one(data: st.DataObject) -> None:
        values = data.draw(changed(data.draw(st.sampled_from(known))))
        for key in reversed(place.split(".")):
            values = {key: values}
        works_or_says_why(lambda: section(values, TABLES.get(table, Run), place))

    try_one()


@few
@given(st.data())
def test_damaged_yaml(tmp_path: Path, data: st.DataObject) -> None:
    content = (ROOT / "presets/smoke.yaml").read_bytes()[: data.draw(st.sampled_from([300, 2000]))]
    if data.draw(st.booleans()):
        content = data.draw(damaged(content))
    else:
        place = data.draw(st.integers(0, len(content)))
        content = content[:place] + data.draw(st.sampled_from(SYNTAX)).encode() + content[place:]
    (tmp_path / "params.yaml").write_bytes(content)
    works_or_says_why(lambda: load(tmp_path / "params.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 5000, "params.yaml: not valid YAML: lists or tables lie in one another too deeply"),
        ("a: 2020-13-45", "params.yaml: not valid YAML: month must be in 1..12"),
        ("a: !!python/object/apply:os.system [id]", "line 1: not valid YAML: could not determine a constructor for"),
        ("\n".join([f"- &{n} [{', '.join([f'*{n - 1}'] * 9 if n else ['x'])}]" for n in range(30)]), "found [['x'], "),
    ],
    ids=["deep", "no date", "code", "billion laughs"],
)
def test_yaml_that_was_made_to_do_harm(tmp_path, text, message):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"params\.yaml") as error:
        load(tmp_path / "params.yaml")
    assert message in str(error.value)
    assert len(str(error.value)) < 1000
