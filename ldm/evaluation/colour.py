"""Whether samples show the colours that their captions ask for, for pictures with a known palette (drawn scenes)."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from ldm.data.pictures import decode_map
from ldm.data.shards import Images
from ldm.evaluation.figure import Figure, Interval, Row, share_interval
from ldm.evaluation.shared import Measured

LEAST, MOST, WRONG = 0.5, 2.0, 0.5
"""A captioned colour covers between LEAST and MOST of its expected area, any other colour less than WRONG of it."""


class CaptionColour:
    """The rule behind `caption_colour`.

    Each pixel counts as the nearest (Euclidean, RGB) of the object colours and the tones of the grounds. The expected
    area of a colour is the number of pixels that the original's label map gives to classes named after it (`red circle`
    after red; two red things add up). A sample is right where every object colour named in its caption covers 0.5 to 2
    times its expected area and every other object colour covers less than half of the smallest expected area among
    those named. With several objects, so, all must be there. Shapes and places are not judged.
    """

    def __init__(self, folder: Path, split: str) -> None:
        """Of the prepared pictures in `folder`; ValueError where they have no palette, captions or label maps."""
        self._images = Images(folder, split)
        info = self._images.info
        palette, classes = info.get("palette"), info.get("label_map_classes")
        if not palette or not classes:
            raise ValueError(f"{folder}: no palette and label maps; caption_colour is for drawn scenes, leave it out")
        self._index = {id: index for index, id in enumerate(self._images.ids)}
        self.colours: list[str] = sorted(palette)
        grounds = [tone for name in sorted(info["grounds"]) for tone in info["grounds"][name]]
        self._palette = torch.tensor([palette[name] for name in self.colours] + grounds, dtype=torch.float32)
        words = [_words(name) for name in classes]
        self._classes = {colour: [i for i, w in enumerate(words) if colour in w] for colour in self.colours}

    def right(self, pixels: UInt8[Tensor, "3 h w"], caption: str, id: str) -> bool:
        """Whether a picture drawn for `caption` has its colours, in the amounts of the original `id`."""
        painted, expected = self.painted(pixels), self.expected(id)
        named = [colour for colour in self.colours if colour in _words(caption)]
        if not named or any(not expected[colour] for colour in named):
            raise ValueError(f"caption {caption!r} of {id} does not name the colours of its label map")
        there = all(LEAST * expected[c] <= painted[c] <= MOST * expected[c] for c in named)
        smallest = min(expected[c] for c in named)
        return there and all(painted[c] < WRONG * smallest for c in self.colours if c not in named)

    def original(self, id: str) -> UInt8[Tensor, "3 h w"]:
        return self._images.pixels(self._index[id])

    def painted(self, pixels: UInt8[Tensor, "3 h w"]) -> dict[str, int]:
        """How many pixels are nearest to each object colour."""
        areas = self._nearest(pixels).flatten().bincount(minlength=len(self._palette)).tolist()
        return dict(zip(self.colours, areas, strict=False))  # what follows are the grounds

    def expected(self, id: str) -> dict[str, int]:
        """How many pixels of the original each object colour has in its label map."""
        if id not in self._index:
            raise ValueError(f"sample of {id}: there is no such picture in the split that it was drawn for")
        label_map = self._images.example(self._index[id]).label_map
        if label_map is None:
            raise ValueError(f"{id}: no label map; caption_colour is for drawn scenes, leave it out")
        areas = decode_map(label_map).flatten().long().bincount(minlength=256).tolist()
        return {name: sum(areas[i] for i in self._classes[name]) for name in self.colours}

    def _nearest(self, pixels: UInt8[Tensor, "3 h w"]) -> Int[Tensor, "h w"]:
        difference = pixels.float()[None] - self._palette[:, :, None, None]
        return difference.square().sum(1).argmin(0)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


class CaptionColourFigure(Figure):
    """`caption_colour`, the fraction of samples that are right; beside it in `about` the same of their originals."""

    def __init__(self, folder: Path, split: str) -> None:
        self._rule = CaptionColour(folder, split)
        self._right: list[bool] = []
        self._ids: list[str] = []
        self._originals: dict[str, bool] = {}

    def measure(self, pixels: UInt8[Tensor, "b 3 h w"], rows: Sequence[Row]) -> Measured:
        right = []
        for image, row in zip(pixels, rows, strict=False):  # pixels may be padded beyond the rows
            if row["caption"] is None:
                raise ValueError(f"sample of {row['id']} has no caption; leave caption_colour out of figures")
            right.append(self._rule.right(image, row["caption"], row["id"]))
            if row["id"] not in self._originals:
                original = self._rule.original(row["id"])
                self._originals[row["id"]] = self._rule.right(original, row["caption"], row["id"])
        originals = [self._originals[row["id"]] for row in rows]
        return {"right": torch.tensor(right), "originals": torch.tensor(originals)}

    def add(self, rows: Sequence[Row], measured: Measured) -> None:
        ids = [row["id"] for row in rows]
        self._ids += ids
        self._right += measured["right"].tolist()
        self._originals |= zip(ids, measured["originals"].tolist(), strict=True)

    def figures(self) -> dict[str, float]:
        return {"caption_colour": sum(self._right) / len(self._right)}

    def intervals(self) -> dict[str, Interval]:
        return {"caption_colour": share_interval(self._right, self._ids)}

    def about(self) -> dict[str, Any]:
        originals = self._originals.values()
        return {
            "caption_colour": {
                "right": sum(self._right),
                "of": len(self._right),
                "originals_right": sum(originals),
                "originals": len(originals),
            }
        }
