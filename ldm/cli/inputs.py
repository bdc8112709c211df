"""What people hand in as files: pictures, masks, label maps, boxes."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from ldm.data.pictures import decode, decode_map, from_image, grey, to_image

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
Picture = UInt8[Tensor, "3 h w"]


def pictures_in(paths: Sequence[Path]) -> list[Path]:
    """The files among `paths`, and the pictures of the folders among them by name."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise ValueError(f"{path}: no pictures in this folder")
            found += inside
        else:
            found.append(path)
    return found


def read_picture(path: Path) -> Picture:
    try:
        return decode(contents(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_mask(path: Path, picture: Picture, of: Path) -> UInt8[Tensor, "h w"]:
    """1 in the hole, which is white (or transparent) in the file."""
    values = read_picture(path)
    if values.shape != picture.shape:
        raise ValueError(
            f"{path}: {_size(values)} pixels, but {of} has {_size(picture)}; a mask has the size of its picture"
        )
    mask = (grey(values)[0] >= 128).to(torch.uint8)
    if not mask.any():
        raise ValueError(f"{path}: nothing in it is white, so there is no hole to fill")
    return mask


def read_label_map(path: Path, classes: Sequence[str]) -> UInt8[Tensor, "h w"]:
    content = contents(path)
    try:
        label_map = decode_map(content)
    except (ValueError, OSError, SyntaxError):
        raise ValueError(f"{path}: not a label map: a PNG of one byte a pixel, the number of its class") from None
    unknown = sorted({int(value) for value in label_map.unique()} - {*range(len(classes)), 255})
    if unknown:
        raise ValueError(
            f"{path}: has the class {unknown[0]}, and this model knows 0 to {len(classes) - 1} "
            f"({listed(classes)}) and 255 for unknown"
        )
    return label_map


def read_lines(path: Path) -> list[str]:
    """The lines that are not blank."""
    try:
        lines = [line.strip() for line in contents(path).decode().splitlines()]
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file in UTF-8") from None
    found = [line for line in lines if line]
    if not found:
        raise ValueError(f"{path}: no lines in it; write one text a line")
    return found


def read_json(path: Path) -> object:
    try:
        return json.loads(contents(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None


def contents(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"{path}: {'a folder, where a file is wanted' if path.is_dir() else 'not found'}")
    return path.read_bytes()


def fitted(picture: Picture, size: tuple[int, int]) -> Picture:
    """Brought to height and width: resized to cover them (antialiased bicubic), the rest cut off evenly."""
    return from_image(ImageOps.fit(to_image(picture), size[::-1], Image.Resampling.BICUBIC))


def padded(values: Shaped[Tensor, "*c h w"], multiple: int) -> Shaped[Tensor, "*c H W"]:
    """Made longer at the bottom and the right, by reflection, to sides that are multiples of `multiple`."""
    rows, columns = (_reflected(side, -(-side // multiple) * multiple) for side in values.shape[-2:])
    return values[..., rows, :][..., columns]


def _reflected(length: int, to: int) -> Tensor:
    period = max(1, 2 * length - 2)
    place = torch.arange(to) % period
    return torch.minimum(place, period - place) if length > 1 else torch.zeros_like(place)


def listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def mask_of(picture: Path, masks: Sequence[Path], index: int) -> Path:
    """The mask of the picture at `index`: of its own in `masks`, or by name, in a folder of masks or beside it."""
    if masks and not masks[0].is_dir():
        return masks[0] if len(masks) == 1 else masks[index]
    folder = masks[0] if masks else picture.parent
    candidates = [folder / f"{picture.stem}_mask.png", *([folder / f"{picture.stem}.png"] if masks else [])]
    for path in candidates:
        if path.is_file():
            return path
    looked = " or ".join(str(path) for path in candidates)
    raise ValueError(f"{picture}: no mask ({looked}); white is the hole, in a picture of the same size")


def without_masks(paths: Sequence[Path]) -> Iterator[Path]:
    """Those that are not the mask of another among them, as in `ldm inpaint MODEL folder/*`."""
    names = {path.with_suffix("") for path in paths}
    for path in paths:
        stem = path.stem.removesuffix("_mask")
        if stem == path.stem or path.with_name(stem) not in names:
            yield path


def sides(values: Shaped[Tensor, "*c h w"]) -> tuple[int, int]:
    """Height and width."""
    return values.shape[-2], values.shape[-1]


def _size(values: Tensor) -> str:
    return f"{values.shape[-1]} x {values.shape[-2]}"
