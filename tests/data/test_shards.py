"""Shards: what goes in comes out, and how they are cut shows nowhere."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from ldm.data import pictures
from ldm.data.shards import Box, Example, Images, write_shards
from ldm.files import sha256, write_json, write_manifest


def examples(count: int) -> list[Example]:
    return [
        Example(
            id=f"{number:03d}",
            image=pictures.encode(torch.full((3, 4, 4), number % 256, dtype=torch.uint8)),
            label=number % 3 if number % 2 else None,
            caption=f"picture {number}" if number % 5 else None,
            boxes=(Box(x=0.25, y=0.5, width=0.125, height=0.25, category=number),) if number % 2 else None,
            label_map=None,
            licence="CC0-1.0",
        )
        for number in range(count)
    ]


def prepared(folder: Path, count: int, shard_size: int) -> Path:
    folder.mkdir()
    write_shards(folder, "train", examples(count), shard_size=shard_size)
    write_json(folder / "dataset.json", {"splits": {"train": count}})
    write_manifest(folder)
    return folder


@pytest.mark.parametrize("shard_size", [1, 7, 64, 65, 1000])
def test_round_trip_whatever_the_shard_size(tmp_path, shard_size):
    images = Images(prepared(tmp_path / "data", 130, shard_size), "train")
    assert len(list((tmp_path / "data").glob("train-*.parquet"))) == -(-130 // shard_size)
    assert images.ids == [f"{number:03d}" for number in range(130)]
    assert [images.example(index) for index in (0, 129, 64, 63, 1)] == [examples(130)[i] for i in (0, 129, 64, 63, 1)]
    assert images.captions() == [example.caption for example in examples(130)]
    assert images.pixels(77).unique().tolist() == [77]
    assert images.batch(torch.tensor([5, 99, 5]))[:, 0, 0, 0].tolist() == [5, 99, 5]
    with pytest.raises(IndexError):
        images.example(130)


def test_equal_examples_are_equal_bytes(tmp_path):
    first, second = prepared(tmp_path / "a", 100, 40), prepared(tmp_path / "b", 100, 40)
    assert (first / "manifest.json").read_bytes() == (second / "manifest.json").read_bytes()


def test_hugging_face_features_are_in_the_schema(tmp_path):
    write_shards(tmp_path, "test", examples(3), classes=["cat", "dog", "owl"])
    metadata = pq.read_schema(tmp_path / "test-00000.parquet").metadata
    features = json.loads(metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == features["label_map"] == {"_type": "Image"}
    assert features["label"] == {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}
    assert features["boxes"]["_type"] == "List"
    assert set(features) == set(pq.read_schema(tmp_path / "test-00000.parquet").names)


def test_ids_are_unique_and_in_order(tmp_path):
    a, b = examples(2)
    with pytest.raises(ValueError, match="id '000' occurs twice"):
        write_shards(tmp_path, "train", [a, a])
    with pytest.raises(ValueError, match="id '000' comes after '001'"):
        write_shards(tmp_path, "train", [b, a])
    assert not list(tmp_path.iterdir()), "a shard appears whole or not at all"


def test_a_missing_split_or_manifest_is_said(tmp_path):
    folder = prepared(tmp_path / "data", 5, 10)
    with pytest.raises(ValueError, match=r"no split 'tset' \(there is: train\)"):
        Images(folder, "tset")
    (folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match="incomplete or missing"):
        Images(folder, "train")


def test_a_missing_shard_is_said(tmp_path):
    folder = prepared(tmp_path / "data", 5, 3)
    (folder / "train-00001.parquet").unlink()
    with pytest.raises(ValueError, match=r"train has 3 pictures, dataset\.json says 5; prepare again"):
        Images(folder, "train")


def test_no_examples_are_no_shard(tmp_path):
    assert write_shards(tmp_path, "train", []) == 0
    assert not list(tmp_path.iterdir())


def test_a_large_picture_ends_a_row_group(tmp_path):
    big = [Example(id=f"{n}", image=bytes(600_000)) for n in range(5)]
    write_shards(tmp_path, "train", big)
    file = pq.ParquetFile(tmp_path / "train-00000.parquet")
    assert [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)] == [2, 2, 1]
    assert len(sha256(tmp_path / "train-00000.parquet")) == 64
