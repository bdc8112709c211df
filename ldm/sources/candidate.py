"""What a source yields: one picture to prepare, not yet decoded or drawn."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from ldm.data.shards import Box


@dataclass(frozen=True, kw_only=True)
class Candidate:
    id: str
    picture: Callable[[int], tuple[Image.Image, Image.Image | None]]
    """The square RGB picture of the given size and its label map; ValueError says why there is none."""
    split: str | None = None
    """Given by the source; None: by content."""
    label: str | None = None
    caption: str | None = None
    boxes: tuple[Box, ...] | None = None
    licence: str = ""
