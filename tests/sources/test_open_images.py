"""Open Images' csv of boxes."""

import csv

import pytest

HEADER = ["ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", "IsOccluded", "IsGroupOf"]
ROWS = [
    ["0b", "xclick", "/m/dog", 1, 0.1, 0.5, 0.0, 0.5, 0, 0],
    ["0a", "xclick", "/m/dog", 1, 0.1, 0.9, 0.0, 1.0, 0, 0],
    ["0b", "xclick", "/m/cat", 1, 0.1, 0.9, 0.0, 1.0, -1, -1],
    ["0a", "xclick", "/m/cat", 1, 0.2, 0.8, 0.2, 0.8, 0, 1],
    ["ff", "xclick", "/m/cat", 1, 0.2, 0.8, 0.2, 0.8, 0, 0],
]
GIVEN = {
    "splits": {"train": {"pictures": "train", "boxes": "train-annotations-bbox.csv"}},
    "box_classes": "class-descriptions-boxable.csv",
}


@pytest.fixture
def made(tmp_path, photo):
    raw = tmp_path / "raw"
    (raw / "train/train_0").mkdir(parents=True)
    for n, id in enumerate(("0a", "0b", "0c")):
        photo(n, (100, 80)).save(raw / f"train/train_0/{id}.jpg")
    (raw / "class-descriptions-boxable.csv").write_text('/m/dog,Dog\n/m/cat,Cat\n/m/x,"Axe, small"\n')
    write(raw, ROWS)
    return raw


def write(raw, rows, header=HEADER):
    with (raw / "train-annotations-bbox.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def test_boxes_of_the_pictures_that_are_there(made, prepared):
    found = prepared(made, "open_images", **GIVEN, on_bad_image="skip")
    assert found.info["box_classes"] == ["Axe, small", "Cat", "Dog"]
    assert found.info["splits"] == {"train": 2}
    assert found.info["skipped"] == [{"path": "train/train_0/0c.jpg", "reason": "no row in train-annotations-bbox.csv"}]
    [group_left_out] = found.example("train/train_0/0a.jpg").boxes
    cat, dog = found.example("train/train_0/0b.jpg").boxes
    assert (group_left_out.category, cat.category, dog.category) == (2, 1, 2)
    assert (dog.x, dog.y, dog.width, dog.height) == pytest.approx((0, 0, 0.5, 0.5), abs=1e-6)


def test_the_order_of_rows_changes_nothing(made, prepared):
    before = prepared(made, "open_images", **GIVEN, on_bad_image="skip").manifest
    write(made, [row[::-1] for row in ROWS[::-1]], HEADER[::-1])
    assert prepared(made, "open_images", **GIVEN, on_bad_image="skip").manifest == before


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("LabelName", "/m/unknown", "line 3: no class '/m/unknown' in source.box_classes' file"),
        ("XMax", 7, "line 3: XMin 0.1, XMax 7, YMin 0, YMax 1: not parts of the picture from 0 to 1; mend the row"),
        ("XMax", 0.05, "line 3: XMin 0.1, XMax 0.05, YMin 0, YMax 1: not parts"),
        ("XMax", "nan", "line 3: XMin 0.1, XMax nan, "),
    ],
)
def test_a_row_that_is_wrong(made, mistake, column, value, message):
    rows = [list(row) for row in ROWS]
    rows[1][HEADER.index(column)] = value
    write(made, rows)
    assert mistake(made, "open_images", **GIVEN).startswith(f"{made}/train-annotations-bbox.csv, {message}")


def test_files_that_are_wrong(made, mistake):
    place = f"{made}/train-annotations-bbox.csv: "
    write(made, [[*ROWS[0][:4], "left", *ROWS[0][5:]]])
    message = mistake(made, "open_images", **GIVEN)
    assert message.startswith(f"{place}not Open Images' csv of boxes (In CSV column #4: Row #2: ")
    write(made, ROWS, [name.replace("IsGroupOf", "Group") for name in HEADER])
    message = mistake(made, "open_images", **GIVEN)
    assert message.startswith(f"{place}not Open Images' csv of boxes (Column 'IsGroupOf' in include_columns")
    write(made, ROWS[-1:])
    assert mistake(made, "open_images", **GIVEN).startswith(f"{place}no row is of a picture in {made}/train")
    (made / "train-annotations-bbox.csv").write_text("")
    assert mistake(made, "open_images", **GIVEN).startswith(f"{place}not Open Images' csv of boxes (Empty CSV file")
    (made / "train-annotations-bbox.csv").unlink()
    assert mistake(made, "open_images", **GIVEN).startswith(f"{place}not found; put the csv of boxes there")
    (made / "class-descriptions-boxable.csv").write_text("Dog\n")
    assert "class-descriptions-boxable.csv, line 1: expected a label and its name" in mistake(
        made, "open_images", **GIVEN
    )


def test_one_id_twice(made, photo, mistake):
    photo(7).save(made / "train/0a.png")
    assert "duplicate id '0a': 'train/0a.png' and 'train/train_0/0a.jpg'" in mistake(made, "open_images", **GIVEN)
