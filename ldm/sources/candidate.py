"""What a source yields: pictures to prepare, not yet decoded or drawn."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from PIL import Image

from ldm.data import pictures
from ldm.data.shards import Box
from ldm.sources.crop import cropped_boxes, cropped_map
from ldm.sources.maps import read_map


@dataclass(frozen=True, kw_only=True)
class View:
    """A picture as it is stored, and what was cropped with it."""

    image: Image.Image
    """RGB, square."""
    label_map: Image.Image | None = None
    """L, of the image's size."""
    boxes: tuple[Box, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    id: str
    view: Callable[[int], View]
    """The square view of the given size; ValueError says why there is none."""
    split: str | None = None
    """Given by the source; None: by content."""
    label: str | None = None
    caption: str | None = None
    licence: str = ""


Make = Callable[[], Candidate]
"""A candidate that is made, its picture file read, when it is called: those of other parts are passed over."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A source, opened: its mistakes that can be known beforehand have been said."""

    candidates: Callable[[], Iterator[Make]]
    """From the first on, in an order that follows from what is in the files; ids are unique."""
    total: int
    """How many candidates there are."""
    classes: tuple[str, ...] | None = None
    """The labels in the source's own order; None: those that occur, by name."""
    box_classes: tuple[str, ...] | None = None
    label_map_classes: tuple[str, ...] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    """What dataset.json says beyond that."""


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What is drawn over a picture by its source: boxes in parts of the whole upright picture, and a label map."""

    boxes: tuple[Box, ...] | None = None
    size: tuple[float, float] | None = None
    """Width and height of the picture for which the boxes were made; None: of whatever picture is there."""
    label_map: bytes | None = None
    """PNG, one byte a pixel."""
    label_map_shift: int = 0
    label_map_classes: tuple[str | None, ...] | None = None


def photo(id: str, content: bytes, *, marks: Marks | None = None, **known: Any) -> Candidate:
    """The candidate whose picture file has this content."""
    return Candidate(id=id, view=partial(_view, content, marks or Marks()), **known)


def missing(id: str, reason: str) -> Candidate:
    """In place of a picture that cannot be had."""
    return Candidate(id=id, view=partial(_refuse, reason))


def _refuse(reason: str, size: int) -> View:
    raise ValueError(reason)


def _view(content: bytes, marks: Marks, size: int) -> View:
    whole = pictures.read(content)
    if marks.size is not None:
        _check_shape(whole, marks.size)
    label_map = None
    if marks.label_map is not None:
        label_map = cropped_map(read_map(marks.label_map, marks.label_map_shift, marks.label_map_classes), whole, size)
    return View(
        image=pictures.square(whole, size),
        label_map=label_map,
        boxes=None if marks.boxes is None else cropped_boxes(marks.boxes, whole.size, size),
    )


def _check_shape(whole: Image.Image, size: tuple[float, float]) -> None:
    """Boxes hold for a picture made smaller, not for one turned or cut."""
    width, height = size
    if abs(whole.width * height - whole.height * width) > max(whole.size) * max(size) * 0.02:
        raise ValueError(
            f"{whole.width} x {whole.height} upright, and its boxes are for {width:g} x {height:g}: turned or cut?"
        )
