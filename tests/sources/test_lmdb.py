"""LSUN's databases, written here with the lmdb package."""

import builtins
import io
import os

import lmdb
import pytest

GIVEN = {"splits": {"train": "church_train_lmdb"}}


def content(picture, ending: str = "WEBP") -> bytes:
    file = io.BytesIO()
    picture.save(file, ending)
    return file.getvalue()


@pytest.fixture
def write(tmp_path):
    def make(items: dict[bytes, bytes], folder: str = "church_train_lmdb"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
        with lmdb.open(str(tmp_path / "raw" / folder), map_size=1 << 24) as database, database.begin(write=True) as t:
            for key, value in items.items():
                t.put(key, value)
        return tmp_path / "raw"

    return make


def test_each_value_is_a_picture(write, photo, prepared):
    items = {f"{n:040x}".encode(): content(photo(n), ("WEBP", "JPEG")[n % 2]) for n in range(6)}
    raw = write(items | {b"\xff\x00": content(photo(7))})
    found = prepared(raw, "lmdb", **GIVEN, licence="LSUN")
    assert sorted(found.part) == [*(f"church_train_lmdb/{n:040x}" for n in range(6)), "church_train_lmdb/0xff00"]
    assert found.info["licences"] == {"LSUN": 7}
    inside = prepared(raw / "church_train_lmdb", "lmdb", splits={"train": "."})
    assert f"{3:040x}" in inside.part


def test_given_splits_and_the_order_of_writing(write, photo, prepared):
    items = {f"{n}".encode(): content(photo(n)) for n in range(4)}
    raw = write(items)
    write(dict(reversed([*items.items(), (b"x", content(photo(9)))])), "again")
    write({b"0": content(photo(20))}, "val")
    both = prepared(raw, "lmdb", splits={"train": "church_train_lmdb", "test": "val"})
    assert both.info["splits"] == {"train": 4, "test": 1}
    again = prepared(raw, "lmdb", splits={"train": "again", "test": "val"})
    assert [id.partition("/")[2] for id in both.splits["train"].ids] + ["x"] == [
        id.partition("/")[2] for id in again.splits["train"].ids
    ]


def test_mistakes(write, photo, prepared, mistake):
    raw = write({b"a": content(photo(0)), b"b": b"no picture", b"c": content(photo(1))[:200], b"d": content(photo(2))})
    reasons = {e["path"]: e["reason"] for e in prepared(raw, "lmdb", **GIVEN, on_bad_image="skip").info["skipped"]}
    assert set(reasons) == {"church_train_lmdb/b", "church_train_lmdb/c"}
    assert mistake(raw, "lmdb", **GIVEN).startswith(f"{raw}/church_train_lmdb/b: not a picture (")
    assert "no data.mdb there; mend source.splits.train" in mistake(raw, "lmdb", splits={"train": "nowhere"})
    twice = {"train": "church_train_lmdb", "test": "church_train_lmdb"}
    assert "is in train and in test; mend source.splits" in mistake(raw, "lmdb", splits=twice)
    assert "the database is empty" in mistake(write({}, "empty"), "lmdb", splits={"train": "empty"})
    (raw / "church_train_lmdb/data.mdb").write_bytes(os.urandom(20000))
    message = mistake(raw, "lmdb", **GIVEN)
    assert message.startswith(f"{raw}/church_train_lmdb/data.mdb: not a whole LMDB database (")
    (raw / "church_train_lmdb/data.mdb").write_bytes(b"")
    assert "not a whole LMDB database (" in mistake(raw, "lmdb", **GIVEN)


def test_without_the_package_it_is_named(write, photo, prepared, monkeypatch):
    raw = write({b"a": content(photo(0))})
    found = builtins.__import__

    def absent(name, globals=None, locals=None, fromlist=(), level=0):
        if name == "lmdb":
            raise ImportError(name)
        return found(name, globals, locals, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ValueError, match=r"source\.kind: lmdb needs the package lmdb; pip install lmdb"):
        prepared(raw, "lmdb", **GIVEN)
