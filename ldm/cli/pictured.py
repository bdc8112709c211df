"""What `ldm upscale`, `inpaint` and `colorize` show their models."""

from collections.abc import Sequence
from math import gcd
from pathlib import Path

from ldm.cli import options
from ldm.cli.beginning import paired
from ldm.cli.drawing import draw_all
from ldm.cli.how import drawing
from ldm.cli.inputs import mask_of, padded, pictures_in, read_mask, read_picture, sides, without_masks
from ldm.cli.models import Opened, open_model
from ldm.cli.rows import SHOWN_BY, Item, told


def draw_upscaled(
    model: str, pictures: Sequence[Path], given: options.Told, how: options.How, where: options.Where
) -> list[Path]:
    opened = _opened(model, how, where, "low_resolution")
    factor = opened.info["low_resolution"]["factor"]
    multiple = opened.multiple // gcd(opened.multiple, factor)
    items = []
    for item, path in paired(told(opened, given), pictures_in(pictures)):
        small = read_picture(path)
        whole = padded(small, multiple)
        (height, width), (kept_height, kept_width) = sides(whole), sides(small)
        items.append(
            item.shown(
                path.stem,
                rows={"low_resolution": whole},
                size=(factor * height, factor * width),
                kept=(factor * kept_height, factor * kept_width),
            )
        )
    return draw_all(opened, items, drawing(opened, how), how, where)


def draw_colorized(
    model: str, pictures: Sequence[Path], given: options.Told, how: options.How, where: options.Where
) -> list[Path]:
    opened = _opened(model, how, where, "grey")
    items = [_of_picture(opened, item, path, None) for item, path in paired(told(opened, given), pictures_in(pictures))]
    return draw_all(opened, items, drawing(opened, how), how, where)


def draw_inpainted(
    model: str,
    pictures: Sequence[Path],
    masks: Sequence[Path],
    guide_scale: float | None,
    given: options.Told,
    how: options.How,
    where: options.Where,
) -> list[Path]:
    opened = _opened(model, how, where, "mask", "none")
    held = opened.channels == "none"
    if guide_scale is not None and not held:
        raise ValueError(f"{opened.name} is shown the mask: leave out --guide-scale")
    paths = list(without_masks(pictures_in(pictures)))
    if len(masks) > 1 and len(masks) != len(paths):
        raise ValueError(f"{len(paths)} pictures and {len(masks)} masks: give one --mask for all, or one for each")
    of = {path: mask_of(path, masks, i) for i, path in enumerate(paths)}
    items = [_of_picture(opened, item, path, of[path]) for item, path in paired(told(opened, given), paths)]
    guide = None if guide_scale is None else {"kind": "masked", "scale": float(guide_scale)}
    section = drawing(opened, how, keep_known=held, guide=guide)
    return draw_all(opened, items, section, how, where, paste=True, latents=True)


def _opened(model: str, how: options.How, where: options.Where, *channels: str) -> Opened:
    opened = open_model(model, how.autoencoder, how.snapshot, where.device)
    if opened.channels not in channels:
        shown = "no pictures" if opened.channels == "none" else opened.channels
        other = f": use {SHOWN_BY[opened.channels]}" if opened.channels != "none" else ""
        raise ValueError(f"{opened.name} is shown {shown}, and this takes a model that is shown {channels[0]}{other}")
    return opened


def _of_picture(opened: Opened, item: Item, path: Path, mask: Path | None) -> Item:
    picture = read_picture(path)
    rows = {"picture": padded(picture, opened.multiple)}
    if mask is not None:
        rows["mask"] = padded(read_mask(mask, picture, path), opened.multiple)
    return item.shown(path.stem, rows=rows, size=sides(rows["picture"]), kept=sides(picture))
