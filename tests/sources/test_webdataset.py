"""Tar files of samples."""

import io
import json
import tarfile

import pytest

GIVEN = {"splits": {"train": "train-*.tar*"}}


@pytest.fixture
def jpg(photo):
    def make(seed: int) -> bytes:
        file = io.BytesIO()
        photo(seed).save(file, "JPEG", quality=95)
        return file.getvalue()

    return make


@pytest.fixture
def write(tmp_path):
    def make(members: list[tuple[str, bytes]], file: str = "train-000.tar"):
        path = tmp_path / "raw" / file
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w:gz" if file.endswith("gz") else "w") as tar:
            for name, content in members:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return tmp_path / "raw"

    return make


@pytest.fixture
def sample(jpg):
    def make(n: int, key: str | None = None) -> list[tuple[str, bytes]]:
        key = key or f"{n:04d}"
        values = {"caption": f"json of {n}", "label": n}
        endings = {
            "jpg": jpg(n),
            "txt": f" words\nof {n} ".encode(),
            "cls": b"%d\n" % (5 * n),
            "json": json.dumps(values).encode(),
        }
        return [(f"{key}.{ending}", content) for ending, content in endings.items()]

    return make


def test_members_of_one_key_are_one_sample(write, sample, prepared):
    write(sample(0) + sample(1, "./part.a/1"))
    raw = write(sample(2), "train-001.tar.gz")
    found = prepared(raw, "webdataset", **GIVEN, label="cls", caption="txt")
    assert set(found.part) == {"train-000/0000", "train-000/part.a/1", "train-001/0002"}
    assert found.info["classes"] == ["0", "5", "10"]
    assert found.example("train-001/0002").caption == "words of 2"
    assert found.example("train-001/0002").label == 2
    from_json = prepared(raw, "webdataset", **GIVEN, label="json.label", caption="json.caption")
    assert from_json.info["classes"] == ["0", "1", "2"]
    assert from_json.example("train-000/0000").caption == "json of 0"
    alone = prepared(raw, "webdataset", **GIVEN)
    assert (alone.info["classes"], alone.example("train-000/0000").caption) == (None, None)


def test_the_order_of_samples_changes_nothing_and_keys_may_begin_anew(write, sample, prepared, tmp_path):
    raw = write(sample(0) + sample(1))
    write(sample(2, "0000") + sample(3, "0001"), "train-001.tar")
    before = prepared(raw, "webdataset", **GIVEN, caption="txt")
    assert before.info["splits"] == {"train": 4}
    write(sample(1) + sample(0))
    write(sample(3, "0001")[::-1] + sample(2, "0000"), "train-001.tar")
    assert prepared(raw, "webdataset", **GIVEN, caption="txt").manifest == before.manifest


def test_given_splits(write, sample, prepared):
    write(sample(0))
    raw = write(sample(1), "val-000.tar")
    assert prepared(raw, "webdataset", splits={"train": "train-*", "test": "val-*"}).info["splits"] == {
        "train": 1,
        "test": 1,
    }


def test_bad_samples_are_skipped(write, sample, jpg, prepared, mistake):
    whole = sample(0)
    raw = write(
        [
            *whole,
            *[(name, content[:200]) if name.endswith("jpg") else (name, content) for name, content in sample(1)],
            *[member for member in sample(2) if not member[0].endswith("jpg")],
            *sample(3),
            ("0003.png", jpg(9)),
            *[member for member in sample(4) if not member[0].endswith("txt")],
            *[(name, b"\xff" if name.endswith("txt") else content) for name, content in sample(5)],
            *[(name, b" " if name.endswith("txt") else content) for name, content in sample(6)],
        ]
    )
    found = prepared(raw, "webdataset", **GIVEN, caption="txt", on_bad_image="skip")
    reasons = {entry["path"].removeprefix("train-000/"): entry["reason"] for entry in found.info["skipped"]}
    assert reasons.pop("0001").startswith("corrupt or truncated (")
    assert reasons == {
        "0002": "no picture of this key (there is: txt, cls, json)",
        "0003": "several pictures of this key (there is: jpg, txt, cls, json, png)",
        "0004": "no member .txt of this key (there is: jpg, cls, json)",
        "0005": ".txt is not UTF-8 at byte 0",
        "0006": "nothing in txt",
    }
    assert mistake(raw, "webdataset", **GIVEN, caption="txt").startswith(f"{raw}/train-000/0001: corrupt or truncated")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", ".json is not valid: "),
        (b"[]", "no text at 'caption' in .json (there is: no object)"),
        (b'{"text": "a"}', "no text at 'caption' in .json (there is: text)"),
    ],
)
def test_json_without_what_is_wanted(write, sample, mistake, text, reason):
    raw = write([(name, text if name.endswith("json") else content) for name, content in sample(0)])
    assert mistake(raw, "webdataset", **GIVEN, caption="json.caption").startswith(f"{raw}/train-000/0000: {reason}")


def test_tars_that_are_wrong(write, sample, mistake):
    assert "duplicate key '0000': its members are not side by side" in mistake(
        write([sample(0)[0], *sample(1), sample(0)[1]]), "webdataset", **GIVEN
    )
    assert "duplicate member '0000.jpg'; pack it again" in mistake(
        write([sample(0)[0], sample(0)[0]]), "webdataset", **GIVEN
    )
    assert "no sample in the tar files" in mistake(write([]), "webdataset", **GIVEN)
    for name in ("../0000.jpg", "/etc/0000.jpg"):
        assert f"member '{name}' leads outside of the archive" in mistake(write([(name, b"x")]), "webdataset", **GIVEN)
    raw = write(sample(0) + sample(1))
    whole = (raw / "train-000.tar").read_bytes()
    for cut in (700, 3000):
        (raw / "train-000.tar").write_bytes(whole[:cut])
        assert "train-000.tar: corrupt or truncated archive (" in mistake(raw, "webdataset", **GIVEN)
    assert "no file matches 'test-*'" in mistake(raw, "webdataset", splits={"train": "test-*"})
    write(sample(0), "train-000.tar.gz")
    twice = {"train": "train-*.gz", "test": "train-*.tar"}
    assert "'train-000' is in train and in test" in mistake(raw, "webdataset", splits=twice)


def test_a_link_in_a_tar_is_refused(write, mistake, tmp_path):
    raw = write([])
    member = tarfile.TarInfo("0.jpg")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(raw / "train-000.tar", "w") as tar:
        tar.addfile(member)
    assert "member '0.jpg' is not a plain file; pack it again without links" in mistake(raw, "webdataset", **GIVEN)
