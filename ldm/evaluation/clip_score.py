"""How well samples agree with their captions, as CLIP sees it (Hessel et al. 2021, scaled as torchmetrics does)."""

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from ldm.data.pictures import resize, to_float
from ldm.evaluation.figure import Figure, Interval, Row, mean_interval
from ldm.evaluation.reconstruction import central
from ldm.evaluation.shared import Measured
from ldm.files import read_json
from ldm.nn.clip import load

PUBLISHED = "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb"
"""sha256 of model.safetensors of openai/clip-vit-large-patch14, which torchmetrics measures with unless told otherwise.
Scores of other models are on other scales: only this one's is called clip_score."""


class ClipScore(Figure):
    """`clip_score`, max(0, 100 x mean cosine between each sample and its caption), with a CLIP from a local folder."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Of the weights in `folder`. Raises ValueError of one line where there is no usable CLIP."""
        clip = load(folder)
        if clip is None:
            raise ValueError(
                f"{folder}: clip_score needs weights of kind clip; name their folder of data/weights as clip, "
                "or leave clip_score out of figures"
            )
        self._clip, self._device = clip.to(device), device
        self._source = read_json(folder / "weights.json")["source"]
        self._scores, self._ids = array("d"), list[str]()
        self.key = "clip_score" if clip.sha256 == PUBLISHED else "clip_score_unpublished"

    @torch.no_grad()
    def measure(self, pixels: UInt8[Tensor, "batch 3 h w"], rows: Sequence[Row]) -> Measured:
        for row in rows:
            if row["caption"] is None:
                raise ValueError(f"sample of {row['id']} has no caption; leave clip_score out of figures")
        captions = [row["caption"] for row in rows] + [rows[-1]["caption"]] * (len(pixels) - len(rows))
        shown = torch.stack([_as_clip_was_trained(picture, self._clip.size) for picture in pixels])
        cosines = self._clip.similarity(to_float(shown.to(self._device)), captions)
        return {"scores": (100 * cosines[: len(rows)].double()).cpu()}

    def add(self, rows: Sequence[Row], measured: Measured) -> None:
        self._ids += [row["id"] for row in rows]
        self._scores.extend(measured["scores"].tolist())

    def figures(self) -> dict[str, float]:
        return {self.key: max(0.0, sum(self._scores) / len(self._scores))}

    def intervals(self) -> dict[str, Interval]:
        found = mean_interval(self._scores, self._ids)
        return {} if found is None else {self.key: (max(0.0, found[0]), max(0.0, found[1]))}

    def about(self) -> dict[str, Any]:
        return {"clip": {"sha256": self._clip.sha256, "source": self._source, "pixels": self._clip.size}}


def _as_clip_was_trained(pixels: UInt8[Tensor, "3 h w"], size: int) -> UInt8[Tensor, "3 size size"]:
    """The short side brought to `size` by Pillow's bicubic, then the middle.

    In uint8, as CLIP's own preprocessing does: where an edge overshoots it is cut off at black and white, which on
    photographs is 1 % of a score.
    """
    height, width = (size * side // min(pixels.shape[1:]) for side in pixels.shape[1:])
    return central(resize(pixels, height, width), size, size)
