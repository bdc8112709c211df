"""The three sets of pictures that a study compares: two methods' samples and the originals they were made for."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pyarrow.dataset as ds
from PIL import Image

from ldm.data.pictures import read
from ldm.data.shards import Images
from ldm.files import identity, read_json


@dataclass(frozen=True, kw_only=True)
class Quartet:
    """All pictures of one original: of equal size, but for the low-resolution image."""

    first: Image.Image
    second: Image.Image
    original: Image.Image
    low_resolution: Image.Image | None
    """What both were made from, where the study shows it."""


def common(first: Path, second: Path, needed: int) -> list[str]:
    """Ids of the originals that both folders of samples have, sorted; ValueError where fewer than `needed`."""
    for folder in (first, second):
        identity(folder)
        if read_json(folder / "sampling.json").get("random_views"):
            raise ValueError(
                f"{folder}: made from training pictures as they were mirrored or cropped, which are not the originals; "
                "sample another split"
            )
    ids = sorted(_ids(first) & _ids(second))
    if not ids:
        raise ValueError(f"{first} and {second}: no original in common; sample both from the same dataset and split")
    if len(ids) < needed:
        raise ValueError(
            f"{first} and {second}: {len(ids)} originals in common, the study needs {needed}; "
            f"raise the samples' count or lower trials to {len(ids)}"
        )
    return ids


def read_quartets(
    first: Path, second: Path, images: Path, ids: Collection[str], *, low_resolution: bool
) -> dict[str, Quartet]:
    """The pictures of `ids`, which both folders of samples have; ValueError where the three do not belong together."""
    columns = ["image", "low_resolution"] if low_resolution else ["image"]
    made, also = _rows(first, ids, columns), _rows(second, ids, columns)
    originals = _originals(images, read_json(first / "sampling.json")["split"], ids)
    if missing := len(set(ids) - originals.keys()):
        raise ValueError(
            f"{images}: {missing} of {len(ids)} originals of {first} are not in it; "
            "set dataset to the one that the samples were made for"
        )
    quartets = {}
    for id in ids:
        original = originals[id]
        for folder, row in ((first, made[id]), (second, also[id])):
            if row["image"].size != original.size:
                raise ValueError(
                    f"{folder}: pictures of {_times(row['image'])} beside originals of {_times(original)} in {images} "
                    "would tell which is which; use samples of the originals' size"
                )
        low = made[id].get("low_resolution")
        if low is not None and not _equal(low, also[id]["low_resolution"]):
            raise ValueError(
                f"{second}: original {id} has another low-resolution image than in {first}; "
                "sample both from latents with the same low_resolution"
            )
        quartets[id] = Quartet(first=made[id]["image"], second=also[id]["image"], original=original, low_resolution=low)
    return quartets


def _ids(folder: Path) -> set[str]:
    return set(_table(folder).to_table(columns=["id"])["id"].to_pylist())


def _rows(folder: Path, ids: Collection[str], columns: list[str]) -> dict[str, dict[str, Image.Image]]:
    """The first row of each id (samples may hold several of one original, with different seeds)."""
    table = _table(folder).to_table(columns=["id", *columns], filter=ds.field("id").isin(sorted(ids)))
    rows: dict[str, dict[str, Image.Image]] = {}
    for values in table.to_pylist():
        if values["id"] in rows:
            continue
        if any(values[column] is None for column in columns):
            raise ValueError(
                f"{folder}: original {values['id']} has no low-resolution image; "
                "use samples of a super-resolution model, or task: any"
            )
        rows[values["id"]] = {column: read(values[column]["bytes"]) for column in columns}
    return rows


def _originals(folder: Path, split: str, ids: Collection[str]) -> dict[str, Image.Image]:
    images = Images(folder, split)
    return {id: read(images.example(index).image) for index, id in enumerate(images.ids) if id in ids}


def _table(folder: Path) -> ds.Dataset:
    files = sorted(folder.glob("samples-*.parquet"))
    if not files:
        raise ValueError(f"{folder}: holds no samples-*.parquet; run the stage that writes it (dvc repro)")
    return ds.dataset([str(file) for file in files], format="parquet")


def _equal(a: Image.Image, b: Image.Image) -> bool:
    return a.size == b.size and a.tobytes() == b.tobytes()


def _times(image: Image.Image) -> str:
    return f"{image.width} x {image.height}"
