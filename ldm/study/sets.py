"""The three sets of pictures that a study compares: two methods' samples and the originals they were made for."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pyarrow.dataset as ds
from PIL import Image

from ldm.data.pictures import read
from ldm.data.shards import Images
from ldm.files import check_whole, identity, read_json
from ldm.study.config import Study, Task


@dataclass(frozen=True, kw_only=True)
class Middle:
    """What stands between the two pictures of a task."""

    column: str
    """Of the samples."""
    channels: str
    """The kind of condition (`condition.channels` of sampling.json) that has it."""
    words: str


MIDDLES: dict[Task, Middle | None] = {
    "super_resolution": Middle(column="low_resolution", channels="low_resolution", words="low-resolution image"),
    "inpainting": Middle(column="shown", channels="mask", words="picture with a hole"),
    "any": None,
}


@dataclass(frozen=True, kw_only=True)
class Quartet:
    """All pictures of one original: of equal size, but for a low-resolution image in the middle."""

    first: Image.Image
    second: Image.Image
    original: Image.Image
    middle: Image.Image | None
    """What both were made from, where the study shows it."""


def common(first: Path, second: Path, config: Study) -> list[str]:
    """Ids of the originals that both folders of samples have, sorted; ValueError where the study needs more."""
    middle = MIDDLES[config.task]
    for folder in (first, second):
        identity(folder)
        check_whole(folder, sorted(folder.glob("samples-*.parquet")))
        sampling = read_json(folder / "sampling.json")
        if sampling.get("random_views"):
            raise ValueError(
                f"{folder}: made from training pictures as they were mirrored or cropped, which are not the originals; "
                "sample another split"
            )
        if middle and sampling["condition"]["channels"] != middle.channels:
            raise ValueError(
                f"{folder}: its samples were made from no {middle.words}; use samples of a model for "
                f"{config.task.replace('_', '-')}, or task: any"
            )
    ids = sorted(_ids(first) & _ids(second))
    if not ids:
        raise ValueError(f"{first} and {second}: no original in common; sample both from the same dataset and split")
    if len(ids) < config.originals:
        fit = (len(ids) - config.catch - config.practice) // 3
        raise ValueError(
            f"{first} and {second}: {len(ids)} originals in common, the study needs {config.originals} (3 x trials + "
            f"catch + practice); raise the samples' count{f', or lower trials to {fit}' if fit > 0 else ''}"
        )
    return ids


def read_quartets(first: Path, second: Path, images: Path, ids: Collection[str], task: Task) -> dict[str, Quartet]:
    """The pictures of `ids`, which both folders of samples have; ValueError where the three do not belong together."""
    middle = MIDDLES[task]
    columns = ["image", middle.column] if middle else ["image"]
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
        between = made[id][middle.column] if middle else None
        if middle and not _equal(made[id][middle.column], also[id][middle.column]):
            raise ValueError(
                f"{second}: original {id} has another {middle.words} than in {first}; "
                "sample both from latents with the same degradation and seed"
            )
        quartets[id] = Quartet(first=made[id]["image"], second=also[id]["image"], original=original, middle=between)
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
