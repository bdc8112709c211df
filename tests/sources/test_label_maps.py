"""Pictures beside label maps, and the names of classes in four ways of writing."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ldm.data.pictures import decode_map

SPLITS = {"train": {"pictures": "train/images", "label_maps": "train/labels"}}
GIVEN = {"splits": SPLITS, "label_map_classes": "classes.json"}


@pytest.fixture
def street(tmp_path, photo):
    """Six pictures whose right half is of class 1, in a folder deeper for one of them."""
    raw = tmp_path / "street"
    for number in range(6):
        name = "deep/5" if number == 5 else str(number)
        for folder, ending in (("images", "jpg"), ("labels", "png")):
            (raw / "train" / folder / name).parent.mkdir(parents=True, exist_ok=True)
            picture = photo(number)
            if folder == "labels":
                half = np.zeros((picture.height, picture.width), np.uint8)
                half[:, picture.width // 2 :] = 1
                picture = Image.fromarray(half)
            picture.save(raw / "train" / folder / f"{name}.{ending}")
    (raw / "classes.json").write_text('["road", "sky"]')
    return raw


def test_each_picture_has_the_map_of_its_name(street, prepared):
    found = prepared(street, "label_maps", **GIVEN)
    assert found.info["label_map_classes"] == ["road", "sky"]
    assert (found.info["classes"], found.info["box_classes"]) == (None, None)
    assert set(found.part) == {f"train/images/{n}.jpg" for n in (0, 1, 2, 3, 4, "deep/5")}
    for id in found.part:
        labels = decode_map(found.example(id).label_map).numpy()
        assert labels.shape == (16, 16)
        assert (labels[:, :8] == 0).all()
        assert (labels[:, 8:] == 1).all()


def test_given_splits_and_an_archive(street, pack, tmp_path, photo, prepared):
    shutil.copytree(street / "train", street / "val")
    for number, path in enumerate(sorted((street / "val/images").rglob("*.jpg"))):
        photo(100 + number).save(path)
    splits = SPLITS | {"test": {"pictures": "val/images", "label_maps": "val/labels"}}
    found = prepared(street, "label_maps", **GIVEN | {"splits": splits})
    assert found.info["splits"] == {"train": 6, "test": 6}
    files = sorted(path for path in street.rglob("*") if path.is_file())
    archive = pack(tmp_path / "a.tar.gz", [(path, path.relative_to(street).as_posix()) for path in files[::-1]])
    assert prepared(archive, "label_maps", **GIVEN | {"splits": splits}).manifest == found.manifest


@pytest.mark.parametrize(
    ("file", "text", "names"),
    [
        ("a.json", json.dumps({"0": "road", "1": "sky", "3": "sea"}), ["road", "sky", "unnamed 2", "sea"]),
        ("a.json", json.dumps({"1": "sky"}), ["unlabelled", "sky"]),
        ("a.txt", "road\n\nblue sky\n", ["road", "blue sky"]),
        ("a.txt", "0: unlabeled\n1: sky, blue\n", ["unlabeled", "sky, blue"]),
    ],
)
def test_names_of_classes(street, prepared, file, text, names):
    (street / file).write_text(text)
    found = prepared(street, "label_maps", **GIVEN | {"label_map_classes": file})
    assert found.info["label_map_classes"] == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", 'expected a list of names or {"1": "person", ...}'),
        ("[]", "0 names; a label map has 1 to 256 classes"),
        ('{"256": "x"}', "'256': expected an id from 0 to 255 and a name"),
        ('{"one": "x"}', "'one': expected an id from 0 to 255 and a name"),
        ("[", "not valid JSON: "),
    ],
)
def test_names_that_are_none(street, mistake, text, message):
    (street / "classes.json").write_text(text)
    assert mistake(street, "label_maps", **GIVEN).startswith(f"{street}/classes.json: {message}")


def test_maps_that_do_not_fit(street, photo, prepared, mistake):
    assert "b.json: not found; write the names" in mistake(
        street, "label_maps", **GIVEN | {"label_map_classes": "b.json"}
    )
    Image.new("L", (9, 9)).save(street / "train/labels/1.png")
    photo(9).save(street / "train/labels/2.png")
    Image.new("L", (40, 32), 7).save(street / "train/labels/3.png")
    (street / "train/labels/4.png").unlink()
    found = prepared(street, "label_maps", **GIVEN, on_bad_image="skip")
    assert {entry["path"][13:]: entry["reason"] for entry in found.info["skipped"]} == {
        "1.jpg": "its label map is 9 x 9, the picture 40 x 32",
        "2.jpg": "its label map: mode RGB; save it as PNG with one byte a pixel, its class",
        "3.jpg": "its label map has class 7, for which label_map_classes has no name",
        "4.jpg": "no label map of its name in train/labels",
    }
    assert "train/images/4.jpg: no label map of its name" in mistake(street, "label_maps", **GIVEN)


def test_folders_that_are_not_there(street, mistake):
    def with_places(pictures: str, label_maps: str) -> str:
        splits = {"train": {"pictures": pictures, "label_maps": label_maps}}
        return mistake(street, "label_maps", **GIVEN | {"splits": splits})

    assert with_places("trian", "train/labels").startswith(f"{street}/trian: no pictures there (it is empty)")
    assert with_places("train/images", "x").startswith(f"{street}/x: no PNG there; put the label maps there")
    (street / "other").mkdir()
    Image.new("L", (9, 9)).save(street / "other/z.png")
    assert "no PNG is named as a picture in" in with_places("train/images", "other")
    twice = GIVEN | {"splits": SPLITS | {"test": SPLITS["train"]}}
    assert "is in train and in test; mend source.splits" in mistake(street, "label_maps", **twice)


def test_camvid(shared_data, prepared):
    splits = {
        "train": {"pictures": "train/images", "label_maps": "train/labels"},
        "test": {"pictures": "val/images", "label_maps": "val/labels"},
    }
    found = prepared(shared_data / "camvid", "label_maps", splits=splits, label_map_classes="classes.json", size=32)
    assert found.info["splits"] == {"train": 367, "test": 101}
    assert found.info["label_map_classes"][0] == "sky"
    sky, road = [], []
    for id in list(found.part)[::20]:
        labels = decode_map(found.example(id).label_map).numpy()
        sky.append((labels[:10] == 0).mean())
        road.append((labels[-10:] == 3).mean())
    assert np.mean(sky) > 0.2
    assert np.mean(road) > 0.5
