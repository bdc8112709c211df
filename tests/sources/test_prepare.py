"""Preparing turns the user's files into square pictures: the same bytes whatever the disk's order."""

import json
import shutil
import tracemalloc
from io import BytesIO

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ldm.sources.config import Dataset
from ldm.sources.palette import COLOURS, GROUNDS, PAIRS
from ldm.sources.prepare import prepare
from ldm.sources.raw import opened


def test_a_folder_is_pictures_known_by_their_path(raw, prepared):
    found = prepared(raw, licence="CC BY 4.0")
    assert found.info == {
        "size": 16, "splits": {"train": 12}, "classes": None, "box_classes": None, "label_map_classes": None,
        "skipped": [], "licences": {"CC BY 4.0": 12},
    }  # fmt: skip
    assert found.splits["train"].ids == sorted(path.relative_to(raw).as_posix() for path in raw.rglob("*.png"))
    example = found.example("deep/er/11.png")
    assert (example.label, example.caption, example.boxes, example.label_map) == (None, None, None, None)


def test_class_folders_give_labels_and_classes_in_order_of_name(raw, prepared):
    found = prepared(raw, "class_folders")
    assert found.info["classes"] == ["cat", "dog", "er"]
    assert found.example("dog/07.png").label == 1
    assert found.example("deep/er/11.png").label == 2


def test_given_splits_are_kept(tmp_path, photo, prepared):
    seed = 0
    for split in ("train", "val", "test"):
        for label in ("cat", "dog"):
            (tmp_path / "raw" / split / label).mkdir(parents=True)
            for _ in range(3):
                photo(seed := seed + 1).save(tmp_path / "raw" / split / label / f"{seed}.png")
    found = prepared(tmp_path / "raw", "class_folders", given_splits=True)
    assert found.info["splits"] == {"train": 6, "validation": 6, "test": 6}
    assert found.info["classes"] == ["cat", "dog"]
    assert found.part["val/cat/7.png"] == "validation"


def test_a_captions_file_names_its_pictures(raw, prepared):
    lines = [
        {"file": "cat/00.png", "title": "A  cat,\nasleep", "tags": ["grey", "soft"], "licence": "CC0-1.0"},
        {"file_name": "dog/06.png", "title": "Ein Hund — für dich", "tags": [], "attribution": "Ada"},
    ]
    (raw / "captions.jsonl").write_text("".join(json.dumps(line) + "\n\n" for line in lines), encoding="utf-8-sig")
    found = prepared(raw, "captions", caption=["title", "tags"], on_bad_image="skip")
    assert found.example("cat/00.png").caption == "A cat, asleep, grey, soft"
    assert found.example("dog/06.png").caption == "Ein Hund — für dich"
    assert found.info["licences"] == {"CC0-1.0": 1, "Ada": 1}
    assert found.info["skipped"][0] == {"path": "cat/01.png", "reason": "no line in captions.jsonl"}
    assert len(found.info["skipped"]) == 10


def test_captions_in_a_csv(raw, prepared):
    text = 'filename,title,tags,license\ncat/00.png,"A cat,\nasleep",grey,CC0-1.0\n\ndog/06.png,Ein Hund — für dich,,\n'
    (raw / "captions.csv").write_text(text, encoding="utf-8-sig")
    given = {"file": "captions.csv", "caption": ["title", "tags"], "on_bad_image": "skip", "licence": "mine"}
    found = prepared(raw, "captions", **given)
    assert found.example("cat/00.png").caption == "A cat, asleep, grey"
    assert found.example("dog/06.png").caption == "Ein Hund — für dich"
    assert found.info["licences"] == {"CC0-1.0": 1, "mine": 1}
    assert found.info["skipped"][0] == {"path": "cat/01.png", "reason": "no line in captions.csv"}


def test_drawn_scenes_bring_all_that_is_known_of_them(tmp_path):
    source = {"kind": "drawn", "count": 40, "objects": 2, "seed": 1, "held_out": ["red circle", "blue square"]}
    section = {"raw": "none", "source": source, "size": 16, "validation": 0.2, "test": 0.2, "on_bad_image": "stop"}
    raw = opened(Dataset.model_validate(section), tmp_path)
    *_, last = prepare(raw, tmp_path / "out", tmp_path / "resume")
    assert (last.done, last.total, last.unit) == (40, 40, "pictures")
    info = json.loads((tmp_path / "out/dataset.json").read_text())
    assert list(info["splits"]) == sorted(info["splits"]) == ["held_out", "test", "train", "validation"]
    assert sum(info["splits"].values()) == 40
    assert info["classes"] is None
    assert info["box_classes"] == list(PAIRS)
    assert info["label_map_classes"] == ["ground", *PAIRS]
    assert {name: tuple(rgb) for name, rgb in info["palette"].items()} == COLOURS
    assert list(info["grounds"]) == sorted(GROUNDS)
    row = pq.read_table(tmp_path / "out/held_out-00000.parquet").to_pylist()[0]
    labels = set(np.asarray(Image.open(BytesIO(row["label_map"]["bytes"]))).flat) - {0}
    assert labels == {1 + box["category"] for box in row["boxes"]}
    assert {"red circle", "blue square"} & {PAIRS[box["category"]] for box in row["boxes"]}


def test_shards_say_how_hugging_face_reads_them(raw, prepared):
    found = prepared(raw, "class_folders")
    table = pq.read_table(found.folder / "train-00000.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == table.schema.names
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"_type": "ClassLabel", "names": ["cat", "dog", "er"]}
    assert features["caption"] == {"_type": "Value", "dtype": "string"}
    assert str(table.schema.field("image").type) == "struct<bytes: binary, path: string>"
    for row in table.to_pylist():
        picture = Image.open(BytesIO(row["image"]["bytes"]))
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (16, 16))


def test_the_short_side_is_scaled_and_the_middle_kept(tmp_path, prepared):
    (tmp_path / "raw").mkdir()
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = (200, 10, 20)
    Image.fromarray(wide).save(tmp_path / "raw/wide.png")
    pixels = prepared(tmp_path / "raw").pixels("wide.png")
    assert pixels.shape == (16, 16, 3)
    assert (pixels[:, 2:-2] == (200, 10, 20)).all()


def test_exif_transparency_depth_colour_space_and_frames(tmp_path, photo, prepared):
    raw = tmp_path / "raw"
    raw.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held on its side
    picture = photo(1, (32, 32))
    picture.save(raw / "upright.png")
    picture.rotate(90).save(raw / "turned.png", exif=turned)
    clear = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    clear.paste((0, 0, 255, 255), (0, 0, 32, 16))
    clear.save(raw / "clear.webp", lossless=True)
    Image.fromarray(np.full((32, 32), 200 * 256 + 7, np.uint16)).save(raw / "deep.png")
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(raw / "print.jpg", quality=100)
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("lime", "red", "blue")]
    frames[0].save(raw / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("L", (32, 32), 77).save(raw / "GREY.TIFF")
    Image.new("1", (32, 32), 1).save(raw / "bits.png")
    palette = Image.new("P", (32, 32), 0)
    palette.putpalette([9, 8, 7])
    palette.save(raw / "palette.png")

    found = prepared(raw)
    assert (found.pixels("turned.png") == found.pixels("upright.png")).all()
    assert found.pixels("clear.webp")[[2, -2], 8].tolist() == [[0, 0, 255], [255, 255, 255]]
    flat = {"deep.png": (200, 200, 200), "print.jpg": (255, 0, 0), "moving.gif": (0, 255, 0),
            "GREY.TIFF": (77, 77, 77), "bits.png": (255, 255, 255), "palette.png": (9, 8, 7)}  # fmt: skip
    for name, colour in flat.items():
        assert np.abs(found.pixels(name).astype(int) - colour).max() <= 2, name


def test_the_order_of_files_on_disk_changes_nothing(raw, tmp_path, prepared):
    again = tmp_path / "again"
    for path in sorted(raw.rglob("*.png"), key=lambda path: path.name[::-1], reverse=True):
        (again / path.relative_to(raw)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, again / path.relative_to(raw))
    parts = {"validation": 0.2, "test": 0.2}
    assert prepared(raw, **parts).manifest == prepared(again, **parts).manifest


@pytest.mark.parametrize("kind", ["folder", "class_folders"])
def test_a_folder_and_an_archive_of_it_are_the_same_bytes(raw, tmp_path, pack, prepared, kind):
    archive = pack(tmp_path / "all.tar.gz", [(p, p.relative_to(raw).as_posix()) for p in raw.rglob("*.png")])
    inside = tmp_path / "inside"
    inside.mkdir()
    shutil.copyfile(archive, inside / "all.tar.gz")
    assert prepared(raw, kind).manifest == prepared(archive, kind).manifest == prepared(inside, kind).manifest


def test_the_number_of_workers_changes_nothing(raw, prepared, monkeypatch):
    manifests = set()
    for workers in ("0", "1", "4"):
        monkeypatch.setenv("LDM_WORKERS", workers)
        manifests.add(prepared(raw, validation=0.2, test=0.2).manifest)
    assert len(manifests) == 1


def test_the_files_are_not_kept_in_memory(tmp_path, prepared):
    (tmp_path / "raw").mkdir()
    noise = np.random.default_rng(0)
    for number in range(40):
        pixels = noise.integers(0, 256, (300, 300, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"raw/{number}.png", compress_level=0)
    tracemalloc.start()
    prepared(tmp_path / "raw", size=8)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 12 * 300 * 300 * 3, "forty files would be more than three times that"


def test_adding_a_picture_moves_none_of_the_others(raw, photo, prepared):
    for seed in range(100, 140):
        photo(seed).save(raw / f"{seed}.png")
    before = prepared(raw, validation=0.2, test=0.2).part
    assert set(before.values()) == {"train", "validation", "test"}
    photo(999).save(raw / "000-first-of-all.png")
    after = prepared(raw, validation=0.2, test=0.2).part
    assert {id: after[id] for id in before} == before


def test_near_copies_share_a_part(raw, photo, prepared):
    for seed in range(100, 140):
        photo(seed, (64, 64)).save(raw / f"{seed}.png")
        photo(seed, (64, 64)).resize((32, 32)).save(raw / f"{seed}-half.jpg", quality=95, subsampling=0)
    part = prepared(raw, validation=0.3, test=0.3).part
    assert set(part.values()) == {"train", "validation", "test"}
    for seed in range(100, 140):
        assert part[f"{seed}.png"] == part[f"{seed}-half.jpg"]


def test_food_with_captions(shared_data, tmp_path, prepared):
    lines = (shared_data / "food/captions.jsonl").read_text().splitlines()[:40]
    raw = tmp_path / "food"
    for line in lines:
        file = raw / json.loads(line)["file"]
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shared_data / "food" / json.loads(line)["file"], file)
    (raw / "captions.jsonl").write_text("\n".join(lines))
    found = prepared(raw, "captions", caption=["title", "tags"], size=64, validation=0.1, test=0.1)
    assert sum(found.info["splits"].values()) == 40
    assert all(found.example(id).caption for id in found.part)
    assert sum(found.info["licences"].values()) == 40
    assert "" not in found.info["licences"]


def test_cifar10_from_its_archive(shared_data, prepared):
    [archive] = (shared_data / "cifar10").glob("*test*.tar.gz")
    found = prepared(archive, "class_folders", size=32, validation=0.1, test=0.2)
    assert len(found.info["classes"]) == 10
    assert sum(found.info["splits"].values()) == 2000
    share = {split: count / 2000 for split, count in found.info["splits"].items()}
    assert share["test"] == pytest.approx(0.2, abs=0.03)
    assert share["validation"] == pytest.approx(0.1, abs=0.03)
