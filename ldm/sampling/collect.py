"""The collect stage: pictures that another method made, as samples that stand beside a model's."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from ldm.data.latents import Latents
from ldm.data.pictures import from_image, read, resize
from ldm.data.samples import write_samples
from ldm.files import fresh_folder, whole, write_json, write_manifest
from ldm.progress import Progress
from ldm.sampling.config import BicubicMethod, FolderMethod, Method
from ldm.sampling.described import described, order
from ldm.sampling.matched import few, matched
from ldm.sampling.sheet import MOST, sheet
from ldm.sampling.shown import shown

BATCH = 64
"""Pictures read at once, which changes none of them."""
Picture = UInt8[Tensor, "3 _ _"]
Make = Callable[[int], Picture]
"""The picture for a row of the latents."""

COLUMNS = {"low_resolution": "low_resolution", "label_map": "label_map", "mask": "mask", "grey": "picture"}
"""By kind of channels, the column of the latents that shows what the method was told."""


def collect(config: Method, latents: Path, folder: Path, out: Path) -> Iterator[Progress]:
    """Write the method's pictures to `out` as the sample stage writes a model's; `folder` holds those made elsewhere.

    Raises ValueError of one line where pictures are missing, do not match their originals, or cannot be read.
    """
    row = config.root
    data = Latents(latents, row.split)
    originals = int((data.draws == 0).sum())
    if row.count > originals:
        raise ValueError(
            f"count {row.count} is more than the {originals} originals in {row.split} of {latents}, and a method has "
            f"one picture of each; say count: {originals}"
        )
    wanted = order(data, row.count).tolist()
    kinds = _kinds(row)
    _check_told(kinds, data)
    make = _enlarged(data) if isinstance(row, BicubicMethod) else _read(folder, data, wanted)
    unusable = []
    for start in range(0, row.count, BATCH):
        made = []
        for i in wanted[start : start + BATCH]:
            try:
                made.append(make(i))
            except ValueError as error:
                unusable.append(" ".join(str(error).split()))
        pictures = {"samples": sheet([(picture, None) for picture in made])} if made else {}
        yield Progress(done=min(start + BATCH, row.count), total=row.count, unit="samples", pictures=pictures)
    if unusable:
        raise ValueError(f"{folder}: {len(unusable)} pictures cannot be used: {few(unusable)}; mend or remake them")

    def batches() -> Iterator[tuple[int, list[int], list[Picture], UInt8[Tensor, "b 3 h w"] | None]]:
        for start in range(0, row.count, BATCH):
            rows = wanted[start : start + BATCH]
            yield start, rows, [make(i) for i in rows], _shown(kinds, data, rows)

    masks = kinds["channels"] == "mask"
    fresh_folder(out)
    write_samples(
        out,
        chain.from_iterable(
            described(data, rows, made, seen, start, masks=masks) for start, rows, made, seen in batches()
        ),
    )
    first = chain.from_iterable(
        zip(made, [None] * len(made) if seen is None else list(seen), strict=True) for _, _, made, seen in batches()
    )
    with whole(out / "sheet.png") as beside:
        sheet(list(islice(first, MOST))).save(beside, format="png")
    write_json(out / "sampling.json", _about(row, kinds, data))
    write_manifest(out)


def _kinds(row: FolderMethod | BicubicMethod) -> dict[str, str]:
    match row:
        case FolderMethod(condition=told):
            return {"tokens": told.tokens, "channels": told.channels}
        case BicubicMethod():
            return {"tokens": "none", "channels": "low_resolution"}


def _check_told(kinds: Mapping[str, str], data: Latents) -> None:
    columns = {COLUMNS.get(kinds["channels"]), "layout" if kinds["tokens"] == "layout" else None} - {None}
    for column in sorted(filter(None, columns)):
        if column not in data.shapes and not (column == "picture" and "pixels" in data.shapes):
            raise ValueError(f"{data.folder}: no column {column}, which the method was told of; see the latents row")


def _shown(kinds: Mapping[str, str], data: Latents, wanted: list[int]) -> UInt8[Tensor, "b 3 h w"] | None:
    rows = data.read(torch.tensor(wanted))
    return shown(kinds, kinds["channels"] == "mask", rows, partial(_originals, rows), data.info)


def _originals(rows: Mapping[str, Tensor]) -> UInt8[Tensor, "b 3 h w"]:
    return rows["picture"] if "picture" in rows else rows["pixels"]


def _side(data: Latents) -> int:
    return int(data.info["latent_shape"][-1] * data.info["factor"])


def _enlarged(data: Latents) -> Make:
    if "low_resolution" not in data.shapes:
        raise ValueError(f"{data.folder}: no column low_resolution for bicubic to enlarge; see the latents row")
    side = _side(data)
    return lambda row: resize(data.read(torch.tensor([row]), ["low_resolution"])["low_resolution"][0], side, side)


def _read(folder: Path, data: Latents, wanted: list[int]) -> Make:
    paths = matched(folder, data.ids)
    if missing := [data.ids[row] for row in wanted if data.ids[row] not in paths]:
        raise ValueError(
            f"{folder}: no picture for {len(missing)} of {len(wanted)} originals: {few(missing)}; add them, or say a "
            "smaller count"
        )
    side = _side(data)

    def make(row: int) -> Picture:
        path = paths[data.ids[row]]
        name = path.relative_to(folder).as_posix()
        try:
            image = read(path.read_bytes())
        except (ValueError, OSError) as error:
            raise ValueError(f"{name} is {error}") from None
        if image.size != (side, side):
            raise ValueError(f"{name} has {image.width} x {image.height} pixels, its original {side} x {side}")
        return from_image(image)

    return make


def _about(row: FolderMethod | BicubicMethod, kinds: Mapping[str, str], data: Latents) -> dict[str, Any]:
    about: dict[str, Any] = {"method": row.kind, "split": row.split, "count": row.count, "condition": dict(kinds)}
    if isinstance(row, FolderMethod):
        about["folder"] = row.folder
    if row.split == "train" and data.info.get("random_views"):
        about["random_views"] = True  # the conditions are of pictures mirrored or cropped as training drew them
    return about
