"""Pictures as they stand in the page: data URLs with what they show, in galleries and in strips of the same ids."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from ldm.data.batches import mixed
from ldm.data.shards import Images
from ldm.report.collect import Prepared, Results, Samples
from ldm.report.records import open_picture, rows_by_id, rows_of

GALLERY, STRIP = 24, 8
SMALL = 128
"""Pictures below this many pixels wide are shown enlarged, each pixel a square, never smoothed by the browser."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    url: str
    width: int
    height: int
    alt: str

    @property
    def pixelated(self) -> bool:
        return self.width < SMALL

    def enlarged(self, room: int) -> int:
        """The largest whole multiple of the width, up to four, that `room` CSS pixels hold; else the width itself."""
        return self.width * max(1, min(4, room // self.width))


@dataclass(frozen=True, kw_only=True)
class Captioned:
    picture: Picture
    caption: str


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Rows of pictures of the same ids; `heads` says what each column shows."""

    heads: tuple[str, ...]
    rows: tuple[tuple[Picture, ...], ...]
    cell: int
    """Width in CSS pixels at which one picture is shown where there is room."""
    split: str


def embed(content: bytes, place: Path | str, alt: str) -> Picture:
    """A PNG's bytes as they are, once they are known to open."""
    image = open_picture(content, place)
    url = "data:image/png;base64," + base64.b64encode(content).decode()
    return Picture(url=url, width=image.width, height=image.height, alt=alt)


def embed_file(path: Path, alt: str) -> Picture:
    try:
        return embed(path.read_bytes(), path, alt)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); run the stage that writes it") from None


def data_gallery(prepared: Prepared, split: str = "train") -> list[Captioned]:
    """Some pictures of a split with their captions, or their classes where there are none."""
    images = Images(prepared.folder, split)
    shown = (images.example(i) for i in mixed(min(GALLERY, len(images)), len(images)).tolist())
    rows = ({"id": e.id, "image": {"bytes": e.image}, "label": e.label, "caption": e.caption} for e in shown)
    return [_captioned(row, prepared, f"data/prepared/{prepared.name}", "Picture") for row in rows]


def sample_gallery(samples: Samples, prepared: Prepared | None) -> list[Captioned]:
    """The first samples with the condition each was drawn for."""
    rows = islice(rows_of(samples.shards(), ["id", "image", "label", "caption", "seed"]), GALLERY)
    return [_captioned(row, prepared, f"samples/{samples.name}", f"Sample of {samples.name}") for row in rows]


def comparison(group: Sequence[Samples], prepared: Prepared) -> Strip:
    """What the models were shown, each model of the `group` and the original, for the first ids that all have.

    A low-resolution image is also shown enlarged by bicubic interpolation.
    """
    split = group[0].section.text("split")
    ids = _common_ids(group)
    originals = rows_by_id(prepared.shards(split), ["image"], ids)
    by_model = [rows_by_id(s.shards(), ["image", "shown", "low_resolution"], ids) for s in group]
    enlarged = all(row["low_resolution"] for row in by_model[0].values())
    rows, width = [], 0
    for id_ in ids:
        original = _picture(originals[id_], "image", f"data/prepared/{prepared.name}", f"The original {id_}")
        first = by_model[0][id_]
        shown = [_picture(first, "shown", f"samples/{group[0].name}", f"What the models were shown of {id_}")]
        if enlarged:
            shown.append(_bicubic(first["low_resolution"]["bytes"], original, id_))
        models = [
            _picture(of_model[id_], "image", f"samples/{samples.name}", f"{id_} by {samples.name}")
            for samples, of_model in zip(group, by_model, strict=True)
        ]
        rows.append((*shown, *models, original))
        width = max(width, original.width)
    given = ("low resolution", "bicubic") if enlarged else ("given",)
    heads = (*given, *(s.name for s in group), "original")
    return Strip(heads=heads, rows=tuple(rows), cell=_cell(width), split=split)


def comparison_groups(results: Results, members: Sequence[Samples]) -> list[tuple[Prepared, list[Samples]]]:
    """Samples made from the same pictures, shown in the same way, stand side by side; of those shown any."""
    groups: dict[tuple[str, str, str], list[Samples]] = {}
    for samples in members:
        model = results.params.table("diffusion").table(samples.section.text("model"))
        kind = model.table("condition").table("channels").text("kind")
        if kind == "none":
            continue
        latents = results.params.table("latents").table(samples.section.text("latents"))
        key = (latents.text("dataset"), samples.section.text("split"), f"{kind} {latents.values_.get(kind)}")
        groups.setdefault(key, []).append(samples)
    return [(results.datasets[key[0]], group) for key, group in groups.items() if key[0] in results.datasets]


def _common_ids(group: Sequence[Samples]) -> list[str]:
    firsts = [[row["id"] for row in rows_of(s.shards(), ["id"])] for s in group]
    shared = set(firsts[0]).intersection(*firsts[1:])
    if not shared:
        raise ValueError(f"samples/{group[0].name}: shares no id with the others of its split; run dvc repro")
    return list(dict.fromkeys(id_ for id_ in firsts[0] if id_ in shared))[:STRIP]


def _captioned(row: dict[str, Any], prepared: Prepared | None, folder: str, what: str) -> Captioned:
    caption = row["caption"] or _class_name(row["label"], prepared)
    alt = f"{what}: {caption}" if caption else f"{what}, id {row['id']}"
    return Captioned(picture=_picture(row, "image", folder, alt), caption=caption)


def _class_name(label: int | None, prepared: Prepared | None) -> str:
    if label is None:
        return ""
    classes = prepared.about.get("classes") if prepared else None
    return str(classes[label]) if classes and 0 <= label < len(classes) else f"class {label}"


def _picture(row: dict[str, Any], column: str, folder: str, alt: str) -> Picture:
    place, value = f"{folder}: id {row['id']}", row[column]
    if not isinstance(value, dict) or not isinstance(value.get("bytes"), bytes):
        raise ValueError(f"{place}: {column}: no picture; run its stage again")
    return embed(value["bytes"], place, alt)


def _bicubic(content: bytes, original: Picture, id_: str) -> Picture:
    """The low-resolution picture at the original's size, by Pillow's bicubic as in `ldm.data.pictures.resize`."""
    size, buffer = (original.width, original.height), BytesIO()
    open_picture(content, id_).resize(size, Image.Resampling.BICUBIC).save(buffer, format="PNG")
    return embed(buffer.getvalue(), id_, f"{id_} enlarged by bicubic interpolation")


def _cell(width: int) -> int:
    """A whole number of CSS pixels for each of a small picture's, about 128 in all; a large one's size up to 256."""
    return max(1, round(SMALL / width)) * width if width < SMALL else min(width, 256)
