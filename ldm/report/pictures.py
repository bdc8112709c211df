"""Galleries: pictures of a data set or of a model, each with what it was made for."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from ldm.data.batches import mixed
from ldm.data.shards import Images
from ldm.report.album import Album, Picture
from ldm.report.collect import Metrics, Prepared, Samples
from ldm.report.records import Record, rows_by_id, rows_of

GALLERY, NEIGHBOURS = 24, 16


@dataclass(frozen=True, kw_only=True)
class Captioned:
    picture: Picture
    caption: str
    memorised: bool = False
    """Of a sample: found to be a training picture, or nearly."""


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A sample and the training picture nearest to it."""

    sample: Picture
    train: Picture
    distance: float
    memorised: bool


def data_gallery(prepared: Prepared, album: Album, split: str = "train") -> list[Captioned]:
    """Some pictures of a split with their captions, or their classes where there are none."""
    images = Images(prepared.folder, split)
    shown = (images.example(i) for i in mixed(min(GALLERY, len(images)), len(images)).tolist())
    rows = ({"id": e.id, "image": {"bytes": e.image}, "label": e.label, "caption": e.caption} for e in shown)
    return _captioned(rows, prepared, f"data/prepared/{prepared.name}", "Picture", f"data-{prepared.name}", album)


def sample_gallery(
    samples: Samples, prepared: Prepared | None, memorised: Collection[tuple[str, int]], album: Album
) -> list[Captioned]:
    """The first samples with the condition each was drawn for; `memorised`: ids and seeds of those to be marked."""
    rows = list(islice(rows_of(samples.shards(), ["id", "seed", "image", "label", "caption"]), GALLERY))
    place, what = f"samples/{samples.name}", f"Sample of {samples.name}"
    shown = _captioned(rows, prepared, place, what, f"samples-{samples.name}", album)
    marks = ((row["id"], row["seed"]) in memorised for row in rows)
    return [replace(one, memorised=mark) for one, mark in zip(shown, marks, strict=True)]


def neighbours(one: Metrics, samples: Samples, prepared: Prepared, album: Album) -> list[Neighbour]:
    """The first samples beside their nearest training pictures; of those listed the memorised ones in any case."""
    listed = [Record(entry, one.about.file, "about.neighbours") for entry in one.about.get("neighbours", [])]
    listed = [entry for i, entry in enumerate(listed) if i < NEIGHBOURS or entry["memorised"]]
    wanted = {(entry.text("id"), entry.count("seed")): entry for entry in listed}
    train = rows_by_id(prepared.shards("train"), ["image"], [entry.text("train_id") for entry in listed])
    found: list[Neighbour] = []
    for row in rows_of(samples.shards(), ["id", "image", "seed"]):
        if len(found) == len(wanted):
            break
        if entry := wanted.get((row["id"], row["seed"])):
            number, id_ = len(found), entry.text("train_id")
            name, place = f"neighbour-{one.name}-{number:02d}", f"data/prepared/{prepared.name}"
            sample = picture(row, "image", f"samples/{samples.name}", f"Sample {number + 1}", f"{name}-sample", album)
            nearest = picture(train[id_], "image", place, f"Training picture {id_}", f"{name}-train", album)
            distance, memorised = entry.number("distance"), bool(entry["memorised"])
            found.append(Neighbour(sample=sample, train=nearest, distance=distance, memorised=memorised))
    return found


def picture(row: dict[str, Any], column: str, folder: str, alt: str, name: str, album: Album) -> Picture:
    """The picture in a column of a row of `folder`; `name` is that of its file where it is too large for the page."""
    return album.picture(content(row, column, folder), f"{folder}: id {row['id']}", alt, name)


def content(row: dict[str, Any], column: str, folder: str) -> bytes:
    """The PNG in a column of a row of `folder`."""
    value = row[column]
    if not isinstance(value, dict) or not isinstance(value.get("bytes"), bytes):
        raise ValueError(f"{folder}: id {row['id']}: {column}: no picture; run its stage again")
    return value["bytes"]


def _captioned(
    rows: Any, prepared: Prepared | None, folder: str, what: str, name: str, album: Album
) -> list[Captioned]:
    found = []
    for number, row in enumerate(rows):
        caption = row["caption"] or _class_name(row["label"], prepared)
        alt = f"{what}: {caption}" if caption else f"{what}, id {row['id']}"
        shown = picture(row, "image", folder, alt, f"{name}-{number:02d}", album)
        found.append(Captioned(picture=shown, caption=caption))
    return found


def _class_name(label: int | None, prepared: Prepared | None) -> str:
    if label is None:
        return ""
    classes: Sequence[str] | None = prepared.about.get("classes") if prepared else None
    return str(classes[label]) if classes and 0 <= label < len(classes) else f"class {label}"
