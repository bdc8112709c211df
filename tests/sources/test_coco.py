"""COCO's own files: boxes, captions and label maps, joined by picture."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ldm.data.pictures import decode_map

CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}]
FILES = {
    "pictures": "train2017",
    "instances": "annotations/instances.json",
    "captions": "annotations/captions.json",
    "label_maps": "stuff",
}
GIVEN = {"splits": {"train": FILES}, "label_map_classes": "labels.txt"}


class Coco:
    """Pictures 100 x 80 and files about them, as COCO writes them."""

    def __init__(self, raw, photo):
        self.raw = raw
        for folder in ("train2017", "stuff", "annotations"):
            (raw / folder).mkdir(parents=True)
        self.images = [{"id": n, "file_name": f"{n:012d}.jpg", "width": 100, "height": 80} for n in range(4)]
        for n in range(4):
            photo(n, (100, 80)).save(raw / f"train2017/{n:012d}.jpg")
            Image.new("L", (100, 80), 18 + n % 2).save(raw / f"stuff/{n:012d}.png")
        (raw / "labels.txt").write_text("0: unlabeled\n18: dog\n19: horse\n")
        self.boxes = [
            {
                "id": 5,
                "image_id": 0,
                "category_id": 18,
                "bbox": [10, 0, 40, 40],
                "iscrowd": 0,
                "segmentation": [[1, 2]],
            },
            {"id": 4, "image_id": 0, "category_id": 1, "bbox": [10, 0, 80, 80], "iscrowd": 0},
            {"id": 6, "image_id": 0, "category_id": 1, "bbox": [0, 0, 100, 80], "iscrowd": 1},
            {"id": 7, "image_id": 2, "category_id": 18, "bbox": [90, 0, 10, 80], "iscrowd": 0},
        ]
        self.captions = [
            {"id": 10 * (k % 2) + n, "image_id": n, "caption": f" {'second' if k % 2 else 'first'}\nof {n}. "}
            for n in range(4)
            for k in (1, 2)
        ]
        self.write()

    def write(self):
        for name, values in (
            ("instances", {"categories": CATEGORIES, "annotations": self.boxes}),
            ("captions", {"annotations": self.captions}),
        ):
            (self.raw / f"annotations/{name}.json").write_text(json.dumps({"images": self.images} | values))


@pytest.fixture
def made(tmp_path, photo):
    return Coco(tmp_path / "raw", photo)


def test_all_three_are_joined_by_picture(made, prepared):
    found = prepared(made.raw, "coco", **GIVEN)
    assert found.info["box_classes"] == ["person", "dog"]
    assert found.info["label_map_classes"][18:] == ["dog", "horse"]
    assert found.info["label_map_classes"][:2] == ["unlabeled", "unnamed 1"]
    assert found.info["splits"] == {"train": 4}
    first = found.example("train2017/000000000000.jpg")
    assert first.caption == "first of 0."
    person, dog = first.boxes  # the square is 10 to 90 of 100
    assert (person.category, person.x, person.y, person.width, person.height) == (0, 0, 0, 1, 1)
    assert (dog.category, dog.x, dog.y, dog.width, dog.height) == pytest.approx((1, 0, 0, 0.5, 0.5))
    assert found.example("train2017/000000000001.jpg").boxes == ()
    assert found.example("train2017/000000000002.jpg").boxes == (), "outside of the square"
    assert (decode_map(first.label_map) == 18).all()
    assert (decode_map(found.example("train2017/000000000003.jpg").label_map) == 19).all()


@pytest.mark.parametrize("key", ["instances", "captions", "label_maps"])
def test_each_of_the_three_alone(made, prepared, key):
    names = {"label_map_classes": "labels.txt"} if key == "label_maps" else {}
    found = prepared(made.raw, "coco", splits={"train": {"pictures": "train2017", key: FILES[key]}}, **names)
    example = found.example("train2017/000000000000.jpg")
    has = {"instances": example.boxes, "captions": example.caption, "label_maps": example.label_map}
    assert [name for name, value in has.items() if value is not None] == [key]
    assert (found.info["box_classes"] is None) == (key != "instances")


def test_coco_stuffs_own_maps_are_shifted(made, prepared):
    for n in range(4):
        path = made.raw / f"stuff/{n:012d}.png"
        whole = np.asarray(Image.open(path)) - 1
        whole[:40] = 255
        Image.fromarray(whole).save(path)
    found = prepared(made.raw, "coco", **GIVEN, label_map_shift=1)
    labels = decode_map(found.example("train2017/000000000000.jpg").label_map)
    assert (labels[:8] == 0).all()
    assert (labels[8:] == 18).all()


def test_order_and_archives_change_nothing(made, pack, tmp_path, prepared):
    before = prepared(made.raw, "coco", **GIVEN).manifest
    for entries in (made.images, made.boxes, made.captions):
        entries.reverse()
    made.write()
    assert prepared(made.raw, "coco", **GIVEN).manifest == before
    files = [path for path in sorted(made.raw.rglob("*")) if path.is_file()]
    archive = pack(tmp_path / "a.tar", [(path, path.relative_to(made.raw).as_posix()) for path in files])
    assert prepared(archive, "coco", **GIVEN).manifest == before


def test_given_splits(made, photo, prepared):
    shutil.copytree(made.raw / "train2017", made.raw / "val2017")
    for n in range(4):
        photo(50 + n, (100, 80)).save(made.raw / f"val2017/{n:012d}.jpg")
    only = {"instances": FILES["instances"]}
    splits = {"train": {"pictures": "train2017", **only}, "test": {"pictures": "val2017", **only}}
    found = prepared(made.raw, "coco", splits=splits)
    assert found.info["splits"] == {"train": 4, "test": 4}
    assert len(found.example("val2017/000000000000.jpg").boxes) == 2


def test_what_is_missing_of_a_picture_is_said_or_skipped(made, photo, prepared, mistake):
    (made.raw / "train2017/000000000001.jpg").unlink()
    (made.raw / "stuff/000000000002.png").unlink()
    photo(9, (100, 80)).save(made.raw / "train2017/new.jpg")
    made.captions = [entry for entry in made.captions if entry["image_id"] != 3]
    made.write()
    found = prepared(made.raw, "coco", **GIVEN, on_bad_image="skip")
    assert {entry["path"][10:]: entry["reason"] for entry in found.info["skipped"]} == {
        "000000000001.jpg": "not there, but in annotations/instances.json",
        "000000000002.jpg": "no label map of its name in stuff",
        "000000000003.jpg": "no caption in annotations/captions.json",
        "new.jpg": "not in annotations/instances.json",
    }
    message = mistake(made.raw, "coco", **GIVEN)
    assert message.startswith(
        f"{made.raw}/train2017/000000000001.jpg: not there, but in annotations/instances.json; mend"
    )


def test_boxes_of_a_turned_picture_are_refused(made, photo, prepared):
    photo(0, (80, 100)).save(made.raw / "train2017/000000000000.jpg")
    only = {"train": {"pictures": "train2017", "instances": FILES["instances"]}}
    [entry] = prepared(made.raw, "coco", splits=only, on_bad_image="skip").info["skipped"]
    assert entry["reason"] == "80 x 100 upright, and its boxes are for 100 x 80: turned or cut?"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.boxes[1].update(category_id=99),
         "annotations/instances.json, annotations[1]: category_id 99 is not among its categories"),
        (lambda m: m.boxes[1].update(image_id=99),
         "annotations/instances.json, annotations[1]: image_id 99 is not among its images"),
        (lambda m: m.boxes[1].update(bbox=[1, 2, 3]), "annotations/instances.json, annotations[1]: 'bbox' is not x, y"),
        (lambda m: m.boxes[1].update(bbox=[1, 2, 3, float("inf")]),
         "annotations/instances.json, annotations[1]: 'bbox' is not x, y"),
        (lambda m: m.boxes[1].update(bbox=[1, 2, 3, 10**400]),
         "annotations/instances.json, annotations[1]: 'bbox' is not x, y"),
        (lambda m: m.images[1].update(id=0), "annotations/instances.json, images[1]: duplicate id 0 or file_name"),
        (lambda m: m.images[1].pop("file_name"), "annotations/instances.json, images[1]: 'file_name' is None, "),
        (lambda m: m.images[1].pop("width"), "annotations/instances.json: image 1 has no width and height"),
        (lambda m: m.captions[1].update(id="x"), "annotations/captions.json, annotations[1]: 'id' is 'x', expected"),
        (lambda m: m.captions[1].pop("caption"), "annotations/captions.json, annotations[1]: no 'caption' (there is"),
        (lambda m: m.images.clear(), "annotations/instances.json, annotations[0]: image_id 0 is not among"),
    ],
)  # fmt: skip
def test_files_that_are_wrong(made, mistake, change, message):
    change(made)
    made.write()
    assert mistake(made.raw, "coco", **GIVEN).startswith(f"{made.raw}/{message}")


def test_files_that_are_not_coco(made, mistake):
    path = made.raw / "annotations/instances.json"
    path.write_text("[")
    assert "instances.json: not valid JSON: " in mistake(made.raw, "coco", **GIVEN)
    path.write_text('{"info": 1}')
    assert "instances.json: no list of 'images' (there is: info)" in mistake(made.raw, "coco", **GIVEN)
    path.unlink()
    assert "instances.json: not found; put it there or mend source" in mistake(made.raw, "coco", **GIVEN)
    made.write()
    for each in (made.raw / "train2017").iterdir():
        each.rename(each.with_stem(f"x{each.stem}"))
    only = {"train": {"pictures": "train2017", "instances": FILES["instances"]}}
    assert "none of the pictures of annotations/instances.json is there" in mistake(made.raw, "coco", splits=only)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"splits": {"train": {"pictures": "a"}}}, "name at least one of instances, captions, label_maps"),
        ({"splits": {"train": {"pictures": "a", "label_maps": "b"}}}, "label_maps and label_map_classes go together"),
        ({"splits": {"train": {"pictures": "a", "instances": "b"}, "test": {"pictures": "a", "captions": "b"}}},
         "give instances for every split or for none"),
        ({"splits": {"train": FILES, "test": FILES}, "test": 0.1, "label_map_classes": "c"},
         r"the test split is given in source\.splits; set test: 0\.0"),
    ],
)  # fmt: skip
def test_sections_that_do_not_hold_together(made, prepared, given, message):
    with pytest.raises(ValueError, match=message):
        prepared(made.raw, "coco", **given)
