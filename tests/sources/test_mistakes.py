"""What is wrong with the user's files is said in one line with its place, or skipped and counted if asked for."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def test_a_bad_picture_stops_and_is_named_and_leaves_what_was_made(raw, tmp_path, prepared, mistake):
    before = prepared(raw, out=tmp_path / "out").manifest
    whole = (raw / "cat/03.png").read_bytes()
    (raw / "cat/03.png").write_bytes(whole[: len(whole) // 2])
    message = mistake(raw, out=tmp_path / "out")
    assert message.startswith(f"{raw}/cat/03.png: corrupt or truncated (")
    assert message.endswith("); mend or remove it, or say on_bad_image: skip")
    assert (tmp_path / "out/manifest.json").read_bytes() == before


def test_no_thread_is_left_waiting_where_a_bad_picture_stops(raw, prepared):
    (raw / "cat/03.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"cat/03\.png: not a picture") as error:
        prepared(raw)
    assert error.value.__traceback__ is not None  # it holds on to everything that was being done
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_a_bad_picture_is_skipped_and_counted_where_the_section_says_so(raw, photo, prepared):
    photo(50).save(raw / "cut.jpg")
    (raw / "cut.jpg").write_bytes((raw / "cut.jpg").read_bytes()[:300])
    (raw / "empty.png").touch()
    (raw / "words.gif").write_text("not a picture at all")
    photo(51, (15, 40)).save(raw / "small.png")
    Image.fromarray(np.ones((32, 32), np.float32)).save(raw / "float.tiff")
    found = prepared(raw, on_bad_image="skip")
    reasons = {entry["path"]: entry["reason"] for entry in found.info["skipped"]}
    assert list(reasons) == ["cut.jpg", "empty.png", "float.tiff", "small.png", "words.gif"]
    assert reasons["cut.jpg"].startswith("corrupt or truncated (")
    assert reasons["empty.png"] == reasons["words.gif"] == "not a picture (JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM)"
    assert reasons["float.tiff"].startswith("32-bit samples are measurements")
    assert reasons["small.png"] == "15 x 40 is smaller than size 16"
    assert found.info["splits"] == {"train": 12}


def test_a_picture_in_train_like_one_in_a_given_test_split_is_left_out(tmp_path, photo, prepared):
    for split, seeds in {"train": range(6), "test": range(4, 8)}.items():
        (tmp_path / "raw" / split).mkdir(parents=True)
        for seed in seeds:
            photo(seed).save(tmp_path / "raw" / split / f"{seed}.png")
    found = prepared(tmp_path / "raw", given_splits=True)
    assert found.info["splits"] == {"train": 4, "test": 4}
    reason = "a near-copy of a picture in the given test or validation split"
    assert found.info["skipped"] == [{"path": f"train/{n}.png", "reason": reason} for n in (4, 5)]


def test_folders_with_nothing_in_them(tmp_path, mistake):
    assert "not found; put the pictures there" in mistake(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no pictures there (it is empty); put .jpg, " in mistake(tmp_path / "empty")
    (tmp_path / "empty/notes.txt").touch()
    assert "no pictures there (1 other files)" in mistake(tmp_path / "empty")


def test_nothing_left_to_train_on(raw, mistake):
    message = mistake(raw, size=1024, on_bad_image="skip")
    assert message == f"{raw}: no picture is left to train on (12 found, 12 skipped)"


def test_class_folders_that_are_none(raw, photo, mistake):
    photo(1).save(raw / "stray.png")
    assert "'stray.png' lies in no class folder; move it" in mistake(raw, "class_folders")
    message = mistake(raw / "cat", "class_folders")
    assert message.startswith(f"{raw}/cat: '00.png' lies in no class folder")
    message = mistake(raw, "class_folders", given_splits=True)
    assert "'cat/00.png' is in no folder named train, validation, valid, val, test; move it or say" in message
    (raw / "stray.png").unlink()
    for folder in ("dog", "deep"):
        shutil.rmtree(raw / folder)
    message = mistake(raw, "class_folders")
    assert message == f"{raw}: all pictures are of one class, 'cat'; say source.kind: folder"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"file": "cat/00.png", "caption": "a"}', '{"file": "gone.png", "caption": "b"}'],
         "captions.jsonl, line 2: no picture 'gone.png' in {raw}; mend the line"),
        (['{"file": "x.png", "caption": "a"}', '{"file": "y.png", "caption": "b"}'],
         "captions.jsonl, line 1: no picture 'x.png' in {raw}, and 1 more; mend the line"),
        (['{"file": "cat/00.png", "caption": "a"}', "", '{"file": "cat/00.png", "caption": "b"}'],
         "captions.jsonl, line 3: duplicate id 'cat/00.png', first on line 1; keep one"),
        (['{"file": "cat/00.png", "text": "a"}'],
         "captions.jsonl, line 1: no text at 'caption' (there is: file, text); mend source.caption"),
        (['{"caption": "a"}'], "captions.jsonl, line 1: no 'file' that names the picture (there is: caption)"),
        (['["cat/00.png", "a"]'], "captions.jsonl, line 1: expected an object such as {{\"file\""),
        (['{"file": "cat/00.png", '], "captions.jsonl, line 1: not valid JSON: "),
        ([""], "captions.jsonl: no captions in it; write one JSON line a picture"),
    ],
    ids=["missing", "two missing", "twice", "other key", "no file", "no object", "no JSON", "empty"],
)  # fmt: skip
def test_a_line_of_captions_that_is_wrong(raw, mistake, lines, message):
    (raw / "captions.jsonl").write_text("\n".join(lines))
    assert mistake(raw, "captions").startswith(f"{raw}/{message.format(raw=raw)}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat/00.png,a\n", "captions.csv: no captions in it; write one row a picture"),
        ("name,caption\ncat/00.png,a\n", "captions.csv, line 2: no 'file' that names the picture (there is: name, "),
        ("file,text\ncat/00.png,a\n", "captions.csv, line 2: no text at 'caption' (there is: file, text); mend"),
        ("file,caption\ncat/00.png,a, b\n", "captions.csv, line 2: 3 cells under 2 columns; put text that holds"),
        ("file,caption\nx.png,a\n", "captions.csv, line 2: no picture 'x.png' in "),
        ('file,caption\ncat/00.png,"a\n', "captions.csv, line 2: not valid csv: unexpected end of data"),
    ],
)
def test_a_row_of_captions_that_is_wrong(raw, mistake, text, message):
    (raw / "captions.csv").write_text(text)
    assert mistake(raw, "captions", file="captions.csv").startswith(f"{raw}/{message}")


def test_a_captions_file_that_cannot_be_read(raw, mistake):
    assert mistake(raw, "captions").startswith(f"{raw}/captions.jsonl: not found; write it, one JSON")
    (raw / "captions.jsonl").write_bytes('{"file": "é"}'.encode("latin-1"))
    assert mistake(raw, "captions") == f"{raw}/captions.jsonl: not UTF-8 at byte 10; save it as UTF-8"


def test_half_a_character_is_said_and_can_be_skipped(raw, prepared, mistake):
    (raw / "captions.jsonl").write_text(
        '{"file": "cat/00.png", "caption": "a \\ud83d"}\n{"file": "cat/01.png", "caption": "b"}'
    )
    found = prepared(raw, "captions", on_bad_image="skip")
    assert found.info["skipped"][0] == {
        "path": "cat/00.png", "reason": r"the text 'a \ud83d' is not Unicode; write it anew"
    }  # fmt: skip
    (raw / "boxes.jsonl").write_text('{"file": "cat/00.png", "boxes": [{"category": "\\ud83d", "box": [0, 0, 1, 1]}]}')
    assert mistake(raw, "boxes", file="boxes.jsonl").startswith(f"{raw}: the text '\\ud83d' is not Unicode")


def test_parts_that_leave_nothing_and_splits_that_are_given_twice(prepared):
    with pytest.raises(ValueError, match=r"validation 0\.5 and test 0\.5 leave nothing to train on"):
        prepared(Path("raw"), validation=0.5, test=0.5)
    with pytest.raises(ValueError, match=r"the test split is given; set test: 0\.0"):
        prepared(Path("raw"), given_splits=True, test=0.1)
