"""Boxes of the user's own."""

import json

import pytest
from PIL import Image

LINES = [
    {"file": "cat/00.png", "boxes": [{"category": "dog", "box": [0.5, 0.25, 0.25, 0.5]},
                                     {"category": "cat", "box": [0.1, 0, 0.9, 1]}]},
    {"file": "cat/01.png", "boxes": [], "licence": "CC0-1.0"},
    {"file": "dog/06.png", "boxes": [{"category": "cat", "box": [0.2, 0.2, 0.6, 0.6], "crowd": 1}]},
]  # fmt: skip


@pytest.fixture
def write(raw):
    def make(lines, file: str = "boxes.jsonl") -> None:
        (raw / file).write_text("\n".join(json.dumps(line) for line in lines))

    return make


def test_lines_of_boxes(raw, write, prepared):
    write(LINES)
    found = prepared(raw, "boxes", file="boxes.jsonl", on_bad_image="skip")
    assert found.info["box_classes"] == ["cat", "dog"]
    assert (found.info["classes"], found.info["splits"]) == (None, {"train": 3})
    cat, dog = found.example("cat/00.png").boxes
    assert (cat.category, dog.category) == (0, 1)
    # 40 x 32 becomes 20 x 16, of which two columns go on each side.
    assert (dog.x, dog.y, dog.width, dog.height) == pytest.approx((8 / 16, 0.25, 5 / 16, 0.5))
    assert (cat.x, cat.width) == (0.0, 1.0)
    assert found.example("cat/01.png").boxes == found.example("dog/06.png").boxes == ()
    assert found.info["licences"] == {"": 2, "CC0-1.0": 1}
    assert len(found.info["skipped"]) == 9


def test_one_json_of_images_is_the_same(raw, write, prepared):
    write(LINES)
    images = [{"file": line["file"], "licence": line.get("licence"), "width": 80, "height": 64,
               "objects": [{"box_xywh": box.pop("box"), **box} for box in line["boxes"]]}
              for line in json.loads(json.dumps(LINES))]  # fmt: skip
    write([{"about": "mine", "images": images[::-1]}], "boxes.json")
    one, other = (prepared(raw, "boxes", file=f, on_bad_image="skip") for f in ("boxes.jsonl", "boxes.json"))
    for split in one.splits:
        assert [one.example(id) for id in one.part] == [other.example(id) for id in one.part], split


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"file": "gone.png", "boxes": []}, "line 4: no picture 'gone.png' in {raw}; mend the line"),
        ({"file": "cat/00.png", "boxes": []}, "line 4: duplicate id 'cat/00.png', first on line 1; keep one"),
        ({"file": "cat/02.png"}, "line 4: no list of 'boxes' (there is: file); write [] for none"),
        ({"file": "cat/02.png", "boxes": [{"category": "dog", "box": [10, 20, 30, 40]}]},
         "line 4, box 1: [10, 20, 30, 40] is not within 0 to 1; give parts of the picture's width and height"),
        ({"file": "cat/02.png", "boxes": [{"category": "dog", "box": [0, 0, 1]}]}, "line 4, box 1: expected {{"),
        ({"file": "cat/02.png", "boxes": [{"category": 7, "box": [0, 0, 1, 1]}]}, "line 4, box 1: expected {{"),
        ({"file": "cat/02.png", "boxes": ["dog"]}, "line 4, box 1: expected {{"),
        ({"file": "cat/02.png", "boxes": [{"category": "dog", "box": [0, 0, 1, float("nan")]}]},
         "line 4: not valid JSON: NaN is no number"),
        ({"images": [], "annotations": []}, "line 4: these are COCO's annotations; say source.kind: coco"),
    ],
)  # fmt: skip
def test_a_line_that_is_wrong(raw, write, mistake, line, message):
    write([*LINES, line])
    assert mistake(raw, "boxes", file="boxes.jsonl").startswith(f"{raw}/boxes.jsonl, {message.format(raw=raw)}")


def test_files_that_are_wrong(raw, write, mistake):
    assert "boxes.jsonl: not found; write it, one JSON line" in mistake(raw, "boxes", file="boxes.jsonl")
    write([])
    assert "boxes.jsonl: no pictures in it" in mistake(raw, "boxes", file="boxes.jsonl")
    write([LINES[1]])
    assert "boxes.jsonl: no boxes in it; say source.kind: folder" in mistake(raw, "boxes", file="boxes.jsonl")
    write([{"images": [], "annotations": []}], "boxes.json")
    assert "COCO's own files are source.kind: coco" in mistake(raw, "boxes", file="boxes.json")


def test_boxes_for_a_picture_of_another_shape_are_refused(raw, write, prepared):
    write(
        [
            LINES[0] | {"width": 320, "height": 256},
            *LINES[1:],
            LINES[0] | {"file": "cat/02.png", "width": 32, "height": 40},
        ]
    )
    found = prepared(raw, "boxes", file="boxes.jsonl", on_bad_image="skip")
    reasons = {entry["path"]: entry["reason"] for entry in found.info["skipped"]}
    assert reasons["cat/02.png"] == "40 x 32 upright, and its boxes are for 32 x 40: turned or cut?"
    assert "cat/00.png" in found.part


def test_boxes_are_of_the_upright_picture(raw, write, photo, prepared):
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held on its side: stored 40 x 32, shown 32 x 40
    photo(3).save(raw / "cat/00.png", exif=turned)
    write([{"file": "cat/00.png", "width": 32, "height": 40, "boxes": [{"category": "top", "box": [0, 0, 1, 0.5]}]}])
    [box] = prepared(raw, "boxes", file="boxes.jsonl", on_bad_image="skip").example("cat/00.png").boxes
    assert (box.x, box.y, box.width, box.height) == (0, 0, 1, 0.5)


def test_photographs_with_boxes(shared_data, prepared):
    found = prepared(shared_data / "layout", "boxes", file="boxes.json", size=32, on_bad_image="skip")
    assert sum(found.info["splits"].values()) == 328
    assert {"person", "Person", "dog"} <= set(found.info["box_classes"])
    boxes = [box for id in found.part for box in found.example(id).boxes]
    assert 1800 < len(boxes) < 2559
    assert all(min(box.x, box.y) >= 0 and box.x + box.width <= 1 + 1e-6 for box in boxes)
