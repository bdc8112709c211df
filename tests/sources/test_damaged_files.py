"""Whatever is changed in a user's files, preparing them works or says in one line why not."""

import json
import shutil
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ldm.sources.config import Dataset
from ldm.sources.prepare import prepare
from ldm.sources.raw import opened
from tests.damage import changed, damaged, few, works_or_says_why
from tests.sources.whole import MAPS, PICTURES, SOURCES, Files, lines

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::hypothesis.errors.HypothesisDeprecationWarning")


@pytest.fixture
def prepared_from(tmp_path) -> Callable[[str, Files, str], None]:
    def run(name: str, files: Files, on_bad_image: str) -> None:
        raw = tmp_path / "raw"
        shutil.rmtree(raw, ignore_errors=True)
        for place, content in files.items():
            (raw / place).parent.mkdir(parents=True, exist_ok=True)
            (raw / place).write_bytes(content)
        section = {"size": 16, "validation": 0.0, "test": 0.0, "on_bad_image": on_bad_image}
        config = Dataset.model_validate({"raw": str(raw), "source": SOURCES[name][0] | {"licence": ""}, **section})
        shutil.rmtree(tmp_path / "resume", ignore_errors=True)
        for _ in prepare(opened(config, raw), tmp_path / "out", tmp_path / "resume"):
            pass

    return run


@pytest.mark.parametrize("name", SOURCES)
def test_whole_files_of_each_kind_are_prepared(name, prepared_from):
    prepared_from(name, SOURCES[name][1], "stop")


@pytest.mark.parametrize("name", SOURCES)
def test_damaged_files_of_each_kind(name, prepared_from):
    files = SOURCES[name][1]
    first = [place for place in files if place not in PICTURES | MAPS] or list(files)

    @few
    @given(st.data())
    def try_one(data: st.DataObject) -> None:
        place = data.draw(st.sampled_from([*first * 4, *files]))
        content = data.draw(damaged(files[place]))
        choice = data.draw(st.sampled_from(["stop", "skip"]))
        works_or_says_why(lambda: prepared_from(name, files | {place: content}, choice))

    try_one()


@pytest.mark.parametrize("name", [name for name, (_, files) in SOURCES.items() if any(".json" in n for n in files)])
def test_damaged_values_in_json(name, prepared_from):
    files = SOURCES[name][1]

    @few
    @given(st.data())
    def try_one(data: st.DataObject) -> None:
        place = data.draw(st.sampled_from([place for place in files if ".json" in place]))
        rows = [json.loads(line) for line in files[place].splitlines()]
        row = data.draw(st.integers(0, len(rows) - 1))
        rows[row] = data.draw(changed(rows[row]))
        choice = data.draw(st.sampled_from(["stop", "skip"]))
        works_or_says_why(lambda: prepared_from(name, files | {place: lines(rows)}, choice))

    try_one()
