"""Tables of pictures as Hugging Face writes them."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

GIVEN = {"splits": {"train": "data/train-*.parquet"}, "image": "image"}
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
NAMES = ["tabby", "beagle", "axolotl"]


@pytest.fixture
def png(photo):
    def make(seed: int) -> bytes:
        file = io.BytesIO()
        photo(seed).save(file, "PNG")
        return file.getvalue()

    return make


@pytest.fixture
def rows(png):
    return [
        {"image": {"bytes": png(n), "path": "x.png"}, "label": n % 2, "text": f"picture {n}", "key": n}
        for n in range(6)
    ]


@pytest.fixture
def write(tmp_path):
    def make(rows, file: str = "data/train-00000.parquet", names=NAMES, image=STRUCT, label: pa.DataType | None = None):
        path = tmp_path / "raw" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        features = {"label": {"names": names, "_type": "ClassLabel"}} if names else {}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        columns = [("image", image), ("label", label or pa.int64()), ("text", pa.string()), ("key", pa.int64())]
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(columns, metadata)), path)
        return tmp_path / "raw"

    return make


def test_classes_are_those_of_the_metadata_in_its_order(rows, write, prepared):
    raw = write(rows[:4])
    write([*rows[4:], rows[5] | {"label": -1, "key": 9}], "data/train-00001.parquet")
    found = prepared(raw, "parquet", **GIVEN, label="label", caption="text", id="key")
    assert found.info["classes"] == NAMES
    assert found.info["splits"] == {"train": 7}
    assert (found.example("3").label, found.example("3").caption) == (1, "picture 3")
    assert found.example("9").label is None
    assert found.splits["train"].ids == [str(n) for n in (0, 1, 2, 3, 4, 5, 9)]


def test_rows_and_files_in_any_order_are_the_same_bytes(rows, write, prepared, tmp_path):
    again = [rows[2], *rows]  # one row twice, byte for byte
    write(again)
    whole = prepared(tmp_path / "raw", "parquet", **GIVEN, label="label", caption="text")
    assert whole.info["splits"] == {"train": 7}
    assert sum(id.endswith("-2") for id in whole.part) == 1
    for n, part in enumerate((again[:2], again[2:])):
        write(part[::-1], f"cut/{5 - n}.parquet")
    cut = prepared(tmp_path / "raw", "parquet", splits={"train": "cut/*"}, image="image", label="label", caption="text")
    assert cut.manifest == whole.manifest


def test_bytes_alone_and_labels_without_names(rows, write, prepared, tmp_path):
    plain = [
        row | {"image": row["image"]["bytes"], "label": n} for n, row in zip((0, 2, 10, 0, 2, 10), rows, strict=True)
    ]
    numbers = prepared(write(plain, names=None, image=pa.binary()), "parquet", **GIVEN, label="label", id="key")
    assert numbers.info["classes"] == ["0", "2", "10"]
    named = [row | {"label": f"class {row['label']}"} for row in rows]
    raw = write(named, names=None, label=pa.string())
    assert prepared(raw, "parquet", **GIVEN, label="label").info["classes"] == ["class 0", "class 1"]
    assert prepared(raw, "parquet", **GIVEN).info["classes"] is None


def test_given_splits_and_the_first_of_several_captions(rows, write, prepared, tmp_path):
    write(rows[:4])
    table = pa.table(
        {"image": pa.array([row["image"] for row in rows[4:]], STRUCT), "text": [["one", "two"], ["three"]]}
    )
    pq.write_table(table, tmp_path / "raw/test.parquet")
    splits = GIVEN["splits"] | {"test": "test.parquet"}
    found = prepared(tmp_path / "raw", "parquet", **GIVEN | {"splits": splits}, caption="text")
    assert found.info["splits"] == {"train": 4, "test": 2}
    assert {found.example(id).caption for id in found.splits["test"].ids} == {"one", "three"}


def test_bad_rows_are_skipped(rows, write, prepared, mistake):
    rows[0]["image"]["bytes"] = None
    rows[1]["image"]["bytes"] = rows[1]["image"]["bytes"][:100]
    rows[2]["label"] = 3
    rows[3]["text"] = None
    raw = write(rows)
    given = GIVEN | {"label": "label", "caption": "text", "id": "key"}
    found = prepared(raw, "parquet", **given, on_bad_image="skip")
    reasons = {entry["path"]: entry["reason"] for entry in found.info["skipped"]}
    assert reasons["0"] == "no bytes in column 'image' of train-00000.parquet"
    assert reasons["1"].startswith("corrupt or truncated (")
    assert reasons["2"] == "label 3 is not among the 3 names of column 'label' of train-00000.parquet"
    assert reasons["3"] == "no text in column 'text' of train-00000.parquet"
    assert mistake(raw, "parquet", **given).endswith("; mend or remove it, or say on_bad_image: skip")


def test_mistakes(rows, write, mistake):
    raw = write([*rows, rows[0]])
    file = f"{raw}/data/train-00000.parquet"
    for key in ("label", "caption", "id"):
        message = mistake(raw, "parquet", **GIVEN, **{key: "nothing"})
        assert message == f"{file}: no column 'nothing' (there is: image, label, text, key); mend source.{key}"
    message = mistake(raw, "parquet", **GIVEN | {"image": "label"})
    assert message == f"{file}: column 'label' is int64, not picture files; mend source.image"
    assert mistake(raw, "parquet", **GIVEN, id="key").startswith(f"{file}, row 6: duplicate id '0'; mend the table")
    message = mistake(raw, "parquet", **GIVEN | {"splits": {"train": "*.pq"}})
    assert message == f"{raw}: no file matches '*.pq'; put the files there or mend source.splits"
    message = mistake(raw, "parquet", **GIVEN | {"splits": {"train": "*", "test": "data/*"}})
    assert message == f"{raw}: 'data/train-00000.parquet' is in train and in test; mend source.splits"
    write(rows, "data/train-00001.parquet", names=["one", "two"])
    assert "the files do not agree in the names of 'label'" in mistake(raw, "parquet", **GIVEN, label="label")
    (raw / "data/train-00001.parquet").write_bytes(b"PAR1 and no more")
    assert "train-00001.parquet: not a whole parquet file (" in mistake(raw, "parquet", **GIVEN)
    (raw / "data/train-00001.parquet").write_bytes((raw / "data/train-00000.parquet").read_bytes()[:-50])
    assert "train-00001.parquet: not a whole parquet file (" in mistake(raw, "parquet", **GIVEN)
    assert mistake(raw / "nowhere", "parquet", **GIVEN).startswith(f"{raw}/nowhere: not found; put the files there")


def test_what_is_prepared_can_be_prepared_again(raw, prepared):
    first = prepared(raw, "class_folders")
    again = prepared(
        first.folder, "parquet", splits={"train": "train-*.parquet"}, image="image", label="label", id="id"
    )
    assert again.info["classes"] == first.info["classes"]
    for name in ("train-00000.parquet", "dataset.json"):
        assert (again.folder / name).read_bytes() == (first.folder / name).read_bytes()
