"""Pictures are rendered in parts that are kept: killed, damaged or made elsewhere, they end in the same bytes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lmdb
import pytest

from ldm.sources import work
from ldm.sources.candidate import Make
from ldm.sources.config import Dataset
from ldm.sources.prepare import prepare
from ldm.sources.raw import Raw, opened
from ldm.sources.work import Work
from tests.sources.whole import PICTURES, SOURCES

DRAWN = {"kind": "drawn", "count": 7, "objects": 2, "seed": 1, "held_out": ["red circle"]}
UNKNOWN = SOURCES["parquet"][0] | {"id": None}, SOURCES["parquet"][1]
KINDS = SOURCES | {"drawn": (DRAWN, {}), "parquet without ids": UNKNOWN}
Contents = dict[str, bytes]


@pytest.fixture
def open_raw(tmp_path) -> Callable[..., Raw]:
    """The files of a kind of source, opened."""

    def make(kind: str, on_bad_image: str = "stop") -> Raw:
        given, files = KINDS.get(kind, ({"kind": "lmdb", "splits": {"train": "."}}, {}))
        place = tmp_path / "raw"
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
        if kind == "lmdb":
            with lmdb.open(str(place), map_size=1 << 20) as database, database.begin(write=True) as transaction:
                for name, content in PICTURES.items():
                    transaction.put(name.encode(), content)
        source = given if kind == "drawn" else given | {"licence": "mine"}
        section = {"raw": str(place), "size": 16, "validation": 0.2, "test": 0.0, "on_bad_image": on_bad_image}
        return opened(Dataset.model_validate(section | {"source": source}), place)

    return make


@pytest.fixture
def rendered(monkeypatch) -> Counter[str]:
    """How often each candidate was rendered since the counter was cleared."""
    count: Counter[str] = Counter()
    render = work._render

    def counted(raw: Raw, make: Make) -> dict[str, object]:
        count[make().id] += 1
        return render(raw, make)

    monkeypatch.setattr(work, "_render", counted)
    return count


@pytest.fixture
def finished(tmp_path) -> Callable[..., Contents]:
    """What the stage ends in with the parts in a folder."""

    def make(raw: Raw, resume: Path) -> Contents:
        for _ in prepare(raw, tmp_path / "out", resume):
            pass
        assert not resume.exists()
        return {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    return make


@pytest.fixture
def in_one(open_raw, finished, tmp_path) -> Callable[..., Contents]:
    """What a kind of source ends in when all of it is one part."""

    def make(kind: str, on_bad_image: str = "stop") -> Contents:
        raw = open_raw(kind, on_bad_image)
        assert len(Work(raw, tmp_path).starts()) == 1
        return finished(raw, tmp_path / "whole")

    return make


def alone(monkeypatch) -> None:
    """Each candidate is a part from now on."""
    monkeypatch.setattr(work, "_FEWEST", 1)


@pytest.mark.parametrize("kind", [*KINDS, "lmdb"])
def test_parts_that_others_made_in_any_order_are_used(
    kind, in_one, open_raw, finished, rendered, tmp_path, monkeypatch
):
    whole = in_one(kind)
    alone(monkeypatch)
    raw, parts = open_raw(kind), tmp_path / "parts"
    for turn in (0, 1):
        other = Work(raw, parts)
        for start in [*other.starts()[turn::2][1:], turn]:  # forwards, passing some over, and then back
            other.batch(start)
        del other
    rendered.clear()
    assert finished(open_raw(kind), parts) == whole
    assert not rendered


@pytest.mark.parametrize("kind", ["archive", "drawn"])
def test_killed_between_any_parts_it_renders_none_twice(
    kind, in_one, open_raw, finished, rendered, tmp_path, monkeypatch
):
    whole = in_one(kind)
    alone(monkeypatch)
    total = open_raw(kind).found.total
    for done in range(1, total):
        rendered.clear()
        records = prepare(open_raw(kind), tmp_path / "out", tmp_path / "parts")
        assert [next(records).done for _ in range(done)] == list(range(1, done + 1))
        records.close()
        assert finished(open_raw(kind), tmp_path / "parts") == whole
        assert set(rendered.values()) == {1}
        assert len(rendered) == total


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: content[: len(content) // 2],
        lambda content: b"",
    ],
    ids=["a flipped bit", "in its hash", "its end cut off", "nothing in it"],
)
def test_a_damaged_part_is_rendered_again_and_it_alone(
    spoil, in_one, open_raw, finished, rendered, tmp_path, monkeypatch
):
    whole = in_one("coco")
    alone(monkeypatch)
    parts = Work(open_raw("coco"), tmp_path / "parts")
    for start in parts.starts():
        parts.batch(start)
    damaged = tmp_path / "parts/part-000000002.arrow"
    damaged.write_bytes(spoil(damaged.read_bytes()))
    rendered.clear()
    assert finished(open_raw("coco"), tmp_path / "parts") == whole
    assert rendered == {"p/2.png": 1}


def test_why_pictures_were_skipped_is_kept_too(in_one, open_raw, finished, rendered, tmp_path, monkeypatch):
    monkeypatch.setitem(PICTURES, "p/1.png", b"none")
    whole = in_one("folder", "skip")
    assert b'"reason": "not a picture' in whole["dataset.json"]
    alone(monkeypatch)
    parts = Work(open_raw("folder", "skip"), tmp_path / "parts")
    for start in parts.starts():
        parts.batch(start)
    rendered.clear()
    assert finished(open_raw("folder", "skip"), tmp_path / "parts") == whole
    assert not rendered


def test_a_bad_picture_stops_any_process_with_one_line_and_leaves_what_was_there(
    open_raw, finished, tmp_path, monkeypatch
):
    before = finished(open_raw("folder"), tmp_path / "parts")
    monkeypatch.setitem(PICTURES, "p/2.png", b"none")
    alone(monkeypatch)
    line = f"{tmp_path}/raw/p/2.png: not a picture .*; mend or remove it, or say on_bad_image: skip"
    with pytest.raises(ValueError, match=line):
        finished(open_raw("folder"), tmp_path / "parts")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    other = Work(open_raw("folder"), tmp_path / "other")
    with pytest.raises(ValueError, match=line):
        other.batch(2)
    assert other.batch(3)["id"].to_pylist() == ["p/3.png"]  # it goes on, and at the right place


def test_files_that_end_before_their_time_are_told(open_raw, tmp_path):
    raw = open_raw("folder")
    more = replace(raw, found=replace(raw.found, total=5))
    with pytest.raises(ValueError, match=f"{raw.place}: changed while it was read; start again"):
        Work(more, tmp_path / "parts").batch(0)
    assert not (tmp_path / "parts").exists()


@pytest.mark.parametrize(
    ("count", "size", "starts"),
    [(0, 16, 0), (15, 16, 1), (120, 16, 8), (3400, 32, 65), (10**6, 256, 7813), (10**6, 32, 977), (100, 2048, 50)],
)
def test_parts_are_a_64th_within_what_memory_can_hold(count, size, starts, open_raw, tmp_path):
    raw = open_raw("drawn")
    config = raw.config.model_copy(update={"size": size})
    assert len(Work(replace(raw, config=config, found=replace(raw.found, total=count)), tmp_path).starts()) == starts
