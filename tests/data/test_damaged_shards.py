"""A shard that is no longer what was written is noticed by its hash, named, and not read."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ldm.data import pictures
from ldm.data.latents import Latents, write_latents
from ldm.data.samples import Sample, read_samples, write_samples
from ldm.data.shards import Example, Images, write_shards
from ldm.files import fresh_folder, write_json, write_manifest
from ldm.nn.weights import read_tensors

COUNT = 20


def images(folder: Path) -> Path:
    picture = pictures.encode(torch.zeros(3, 4, 4, dtype=torch.uint8))
    write_shards(folder, "train", [Example(id=f"{n:02d}", image=picture) for n in range(COUNT)])
    write_json(folder / "dataset.json", {"splits": {"train": COUNT}})
    write_manifest(folder)
    return folder / "train-00000.parquet"


def latents(folder: Path) -> Path:
    with write_latents(folder, "train", {"mean": (3, 2, 2)}) as append:
        append([f"{n:02d}" for n in range(COUNT)], [0] * COUNT, [-1] * COUNT, {"mean": torch.zeros(COUNT, 3, 2, 2)})
    write_json(folder / "latents.json", {"counts": {"train": COUNT}, "shapes": {"mean": [3, 2, 2]}})
    write_manifest(folder)
    return folder / "train-00000.arrow"


def samples(folder: Path) -> Path:
    png = pictures.to_png(Image.new("RGB", (4, 4)))
    nothing = dict.fromkeys(("label", "caption", "low_resolution", "shown", "mask"))
    write_samples(fresh_folder(folder), [Sample(id=f"{n:02d}", seed=n, image=png, **nothing) for n in range(COUNT)])
    write_manifest(folder)
    return folder / "samples-00000.parquet"


def weights(folder: Path) -> Path:
    fresh_folder(folder)
    save_file({f"{n:02d}": torch.ones(2) for n in range(COUNT)}, folder / "model.safetensors")
    write_manifest(folder)
    return folder / "model.safetensors"


def test_one_flipped_bit_of_samples_or_weights(tmp_path):
    for name, write, read in (("s", samples, lambda f: list(read_samples(f.parent))), ("w", weights, read_tensors)):
        file = write(tmp_path / name)
        assert len(read(file)) == COUNT
        content = bytearray(file.read_bytes())
        content[-2 if name == "w" else len(content) // 4] ^= 1
        file.unlink()
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"{file.name}: damaged, its hash is not that in manifest.json"):
            read(file)


@pytest.mark.parametrize("place", [0, 0.25, 0.5, 0.75, 1])
@pytest.mark.parametrize(("write", "read"), [(images, Images), (latents, Latents)])
def test_one_flipped_bit_anywhere(tmp_path, write, read, place):
    shard = write(tmp_path / "made")
    assert len(read(shard.parent, "train")) == COUNT
    content = bytearray(shard.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    shard.unlink()
    shard.write_bytes(content)
    said = f"{shard}: damaged, its hash is not that in manifest.json; delete {shard.parent} and run dvc repro"
    with pytest.raises(ValueError, match=re.escape(said)):
        read(shard.parent, "train")


@pytest.mark.parametrize(("write", "read"), [(images, Images), (latents, Latents)])
def test_a_shard_that_was_cut(tmp_path, write, read):
    shard = write(tmp_path / "made")
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"{shard.name}: damaged"):
        read(shard.parent, "train")
