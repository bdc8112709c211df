"""What others wrote about pictures: captions, JSON, csv and tables, with what does not belong there."""

import csv
import io
import json

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

DEEP = "[" * 100_000


def write_captions(raw, *captions: str) -> None:
    lines = [json.dumps({"file": f"cat/{n:02d}.png", "caption": caption}) for n, caption in enumerate(captions)]
    (raw / "captions.jsonl").write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("caption", "kept"),
    [
        ("a\x00b\x1b[31mred\x07", "a b [31mred"),
        ("two\r\nlines\u2028three\x85four", "two lines three four"),
        ("\u202egnp.exe\u202c", "gnp.exe"),
        ("\u2066מחבט\u2069", "מחבט"),
        ("<script>alert(1)</script> {{ 7*7 }} ${x}", "<script>alert(1)</script> {{ 7*7 }} ${x}"),
        ("👨‍👩‍👧 می‌خواهم", "👨‍👩‍👧 می‌خواهم"),
        ("", ""),
    ],
    ids=["control", "lines", "override", "isolate", "script", "joiners", "empty"],
)  # fmt: skip
def test_a_caption_is_one_line_of_what_can_be_shown(raw, prepared, caption, kept):
    write_captions(raw, caption)
    found = prepared(raw, "captions", on_bad_image="skip")
    assert found.example("cat/00.png").caption == kept


def test_a_caption_of_a_megabyte_is_a_bad_image(raw, prepared):
    write_captions(raw, "a" * 1_000_000, "b")
    [skipped, *_] = prepared(raw, "captions", on_bad_image="skip").info["skipped"]
    reason = f"the text '{'a' * 40}...' has 1,000,000 characters, more than 10,000; cut it"
    assert skipped == {"path": "cat/00.png", "reason": reason}


def test_names_of_classes_and_licences_are_one_line_too(raw, prepared):
    line = {"file": "cat/00.png", "licence": "CC\x1b BY\n4.0", "boxes": [{"category": "d\x00og", "box": [0, 0, 1, 1]}]}
    (raw / "boxes.jsonl").write_text(json.dumps(line))
    found = prepared(raw, "boxes", file="boxes.jsonl", on_bad_image="skip")
    assert found.info["box_classes"] == ["d og"]
    assert found.info["licences"] == {"CC BY 4.0": 1}


@pytest.mark.parametrize("kind", ["captions", "boxes", "coco"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (DEEP, "not valid JSON: maximum recursion depth exceeded"),
        ('{"a": ' * 100_000, "not valid JSON: maximum recursion depth exceeded"),
        (f'{{"file": {"9" * 5000}}}', "not valid JSON: Exceeds the limit (4300 digits) for integer string conversion"),
        ('{"file": "x', "not valid JSON: Unterminated string starting at"),
        ("null", ": "),
        ("5", ": "),
    ],
    ids=["lists", "tables", "digits", "open", "null", "number"],
)  # fmt: skip
def test_json_that_is_no_table_of_pictures(raw, mistake, kind, text, reason):
    (raw / "about.json").write_text(text)
    files = {"pictures": ".", "instances": "about.json"}
    given = {"splits": {"train": files}} if kind == "coco" else {"file": "about.json"}
    message = mistake(raw, kind, **given, **({"caption": ["caption"]} if kind == "captions" else {}))
    assert message.startswith(f"{raw}/about.json")
    assert reason in message
    assert len(message) < 1000


def coco(raw, change) -> dict[str, object]:
    values = {
        "images": [{"id": n, "file_name": f"{n:02d}.png", "width": 40, "height": 32} for n in range(6)],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 20, 10]} for n in range(6)],
        "categories": [{"id": 1, "name": "cat"}],
    }
    change(values)
    (raw / "instances.json").write_text(json.dumps(values))
    return {"splits": {"train": {"pictures": "cat", "instances": "instances.json"}}}


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("annotations", 2, "bbox"), [float("nan"), 0, 1, 1], "annotations[2]: 'bbox' is not x, y, width, height"),
        (("annotations", 2, "bbox"), [0, 0, -1, 1], "annotations[2]: 'bbox' is not x, y, width, height"),
        (("annotations", 2, "bbox"), [10**400, 0, 1, 1], "annotations[2]: 'bbox' is not x, y, width, height"),
        (("annotations", 2, "bbox"), {"x": 1}, "annotations[2]: 'bbox' is not x, y, width, height"),
        (("annotations", 2, "image_id"), "2", "annotations[2]: 'image_id' is '2', expected int"),
        (("annotations", 2, "category_id"), True, "annotations[2]: 'category_id' is True, expected int"),
        (("annotations", 2), None, "annotations[2]: expected an object"),
        (("images", 3, "id"), 2, "images[3]: duplicate id 2 or file_name 'cat/03.png'"),
        (("images", 3, "file_name"), ["03.png"], "images[3]: 'file_name' is ['03.png'], expected str"),
        (("images", 3, "width"), -40, "image 3 has no width and height"),
        (("images", 3, "height"), float("inf"), "image 3 has no width and height"),
        (("categories", 0, "name"), None, "categories[0]: 'name' is None, expected str"),
        (("images",), {"0": {}}, "no list of 'images'"),
    ],
)
def test_coco_with_wrong_values(raw, mistake, place, value, message):
    def change(values):
        for key in place[:-1]:
            values = values[key]
        values[place[-1]] = value

    assert f"{raw}/instances.json" in mistake(raw, "coco", **coco(raw, change))
    assert message in mistake(raw, "coco", **coco(raw, change))


@pytest.mark.parametrize("name", ["../../outside.png", "/etc/passwd", "x\n\x1b[2J.png", "\ud800.png"])
def test_a_file_name_of_coco_leads_nowhere(raw, prepared, name):
    def change(values):
        values["images"][0]["file_name"] = name

    found = prepared(raw, "coco", **coco(raw, change), on_bad_image="skip")
    reasons = {entry["path"]: entry["reason"] for entry in found.info["skipped"]}
    [lost] = [path for path, reason in reasons.items() if reason == "not there, but in instances.json"]
    assert lost.isprintable()
    assert reasons["cat/00.png"] == "not in instances.json"


@pytest.mark.parametrize("side", [1e300, 10**300, "40", True, [40], -1])
def test_a_size_in_a_row_of_boxes_that_is_none_is_passed_over(raw, prepared, side):
    line = {"file": "cat/00.png", "width": side, "height": 32, "boxes": [{"category": "a", "box": [0, 0, 1, 1]}]}
    (raw / "boxes.jsonl").write_text(json.dumps(line))
    assert prepared(raw, "boxes", file="boxes.jsonl", on_bad_image="skip").info["splits"] == {"train": 1}


def test_infinity_written_as_a_number_is_no_size_and_no_box(raw, prepared, mistake):
    line = '{"file": "cat/00.png", "width": 1e999, "height": 1, "boxes": [{"category": "a", "box": [0, 0, 1, %s]}]}'
    (raw / "boxes.jsonl").write_text(line % "1")
    assert prepared(raw, "boxes", file="boxes.jsonl", on_bad_image="skip").info["splits"] == {"train": 1}
    (raw / "boxes.jsonl").write_text(line % "1e999")
    assert "line 1, box 1: expected " in mistake(raw, "boxes", file="boxes.jsonl")


def test_csv_with_what_does_not_belong_there(raw, prepared, mistake):
    (raw / "c.csv").write_text('file,caption\ncat/00.png,"' + "x" * 200_000 + '"\n')
    assert mistake(raw, "captions", file="c.csv").startswith(f"{raw}/c.csv, line 2: not valid csv: field larger than ")
    (raw / "c.csv").write_text('file,caption\ncat/00.png,"=1+1 \0\x1b"\n')
    assert prepared(raw, "captions", file="c.csv", on_bad_image="skip").example("cat/00.png").caption == "=1+1"
    (raw / "b.csv").write_text("ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\n00,/m/0,0,1,0,1,0\n")
    (raw / "n.csv").write_text("/m/0," + "x" * 200_000)
    given = {"splits": {"train": {"pictures": "cat", "boxes": "b.csv"}}, "box_classes": "n.csv"}
    assert mistake(raw, "open_images", **given).startswith(f"{raw}/n.csv, line 1: not valid csv: field larger than ")
    (raw / "n.csv").write_text("/m/0,Dog")
    (raw / "b.csv").write_text("ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\n")
    assert "no row is of a picture in " in mistake(raw, "open_images", **given)
    assert csv.field_size_limit() == 131072


def pictures(photo, count: int = 4) -> list[bytes]:
    files = [io.BytesIO() for _ in range(count)]
    for number, file in enumerate(files):
        photo(number).save(file, "PNG")
    return [file.getvalue() for file in files]


@pytest.mark.parametrize(
    ("key", "column", "kind"),
    [
        ("label", pa.array([0] * 4, pa.timestamp("ns")), "timestamp[ns], expected text or whole numbers"),
        ("label", pa.array([1.5] * 4), "double, expected text or whole numbers"),
        ("label", pa.array([{"a": 1}] * 4), "struct<a: int64>, expected text or whole numbers"),
        ("caption", pa.array([1] * 4), "int64, expected text or lists of texts"),
        ("caption", pa.array([[[b"x"]]] * 4), "list<element: list<element: binary>>, expected text or lists of texts"),
        ("id", pa.array([b"x"] * 4), "binary, expected text or whole numbers"),
        ("image", pa.array(["x"] * 4), "string, not picture files"),
        ("image", pa.array([{"path": "/etc/passwd"}] * 4), "struct<path: string>, not picture files"),
        ("image", pa.array([[b"x"]] * 4), "list<element: binary>, not picture files"),
    ],
)
def test_parquet_with_wrong_types(tmp_path, photo, mistake, key, column, kind):
    (tmp_path / "raw").mkdir()
    file = tmp_path / "raw/a.parquet"
    columns = {"image": pa.array(pictures(photo)), "wrong": column}
    pq.write_table(pa.table(columns), file)
    given = {"image": "image"} | {key: "wrong"}
    message = mistake(tmp_path / "raw", "parquet", splits={"train": "*.parquet"}, **given)
    assert message == f"{file}: column 'wrong' is {kind}; mend source.{key}"


def test_parquet_with_nulls_and_text_that_is_none(tmp_path, photo, prepared, mistake):
    (tmp_path / "raw").mkdir()
    file = tmp_path / "raw/a.parquet"
    png = pictures(photo)
    columns = {"image": pa.array([png[0], None, png[2], png[3]]), "text": pa.array(["a", "b", None, "c\x00\u202ed"])}
    pq.write_table(pa.table(columns), file)
    given = {"splits": {"train": "*.parquet"}, "image": "image", "caption": "text"}
    found = prepared(tmp_path / "raw", "parquet", **given, on_bad_image="skip")
    reasons = sorted(entry["reason"] for entry in found.info["skipped"])
    assert reasons == ["no bytes in column 'image' of a.parquet", "no text in column 'text' of a.parquet"]
    assert {found.example(id).caption for id in found.part} == {"a", "c d"}
    broken = pa.Array.from_buffers(pa.string(), 4, pa.array([b"\xff"] * 4).buffers())
    pq.write_table(pa.table(columns | {"text": broken}), file)
    assert mistake(tmp_path / "raw", "parquet", **given).startswith(f"{file}: not a whole parquet file ('utf-8' codec")


def test_an_id_of_a_table_is_shown_on_one_line(tmp_path, photo, mistake):
    (tmp_path / "raw").mkdir()
    pq.write_table(pa.table({"image": [b"no picture"], "key": ["a\n\x1b[2J\u202e"]}), tmp_path / "raw/a.parquet")
    message = mistake(tmp_path / "raw", "parquet", splits={"train": "*"}, image="image", id="key")
    assert message.startswith(f"{tmp_path}/raw/a \\x1b[2J\\u202e: not a picture (")


def test_an_lmdb_that_was_cut_is_noticed_before_it_is_followed(tmp_path, photo, mistake):
    (tmp_path / "raw/db").mkdir(parents=True)
    with lmdb.open(str(tmp_path / "raw/db"), map_size=1 << 24) as database, database.begin(write=True) as transaction:
        for number, png in enumerate(pictures(photo, 8)):
            transaction.put(f"{number}".encode(), png)
    file = tmp_path / "raw/db/data.mdb"
    file.write_bytes(file.read_bytes()[:20_000])
    message = mistake(tmp_path / "raw", "lmdb", splits={"train": "db"})
    assert message.startswith(f"{file}: not a whole LMDB database (20,000 bytes, of ")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_label_map_larger_than_all_memory_is_refused(tmp_path, photo, mistake):
    for folder in ("images", "labels"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
    photo(0).save(tmp_path / "raw/images/1.jpg")
    Image.fromarray(np.zeros((10_001, 10_000), np.uint8)).save(tmp_path / "raw/labels/1.png")
    (tmp_path / "raw/names.json").write_text('["a"]')
    given = {"splits": {"train": {"pictures": "images", "label_maps": "labels"}}, "label_map_classes": "names.json"}
    message = mistake(tmp_path / "raw", "label_maps", **given)
    assert "images/1.jpg: its label map: 10000 x 10001 is more than 100,000,000 pixels; mend or remove it" in message
