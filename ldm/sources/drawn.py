"""Drawn scenes: coloured shapes on muted grounds, each a function of (seed, index) alone.

Every edge is antialiased from the exact distance to it, so a scene is the same picture at every size.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import hypot, sqrt
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from PIL import Image

from ldm.data.randomness import generator
from ldm.data.shards import Box
from ldm.sources.candidate import Candidate, Found, Make, View
from ldm.sources.config import Drawn
from ldm.sources.palette import COLOURS, GROUNDS, PAIRS, SHAPES, TEXTURES

T = TypeVar("T")

PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")

_EXTENTS = {"circle": (1.0, 1.0, 1.0), "square": (0.9, 0.9, 0.9), "triangle": (1.2, 1.1, 0.95)}
"""Half width, height above and height below the centre, in radii: chosen so that the areas are alike."""
_RADII = {"small": (0.11, 0.13), "large": (0.19, 0.21)}
_GAP = 0.03  # between two objects, and between an object and the border
_STRIPES = ((1.0, 0.0), (0.0, 1.0), (sqrt(0.5), sqrt(0.5)), (sqrt(0.5), -sqrt(0.5)))


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One shape; lengths in parts of the picture's side."""

    colour: str
    shape: str
    size: str
    place: int
    x: float
    y: float
    radius: float

    @property
    def pair(self) -> int:
        return PAIRS.index(f"{self.colour} {self.shape}")

    @property
    def box(self) -> Box:
        half, above, below = (self.radius * extent for extent in _EXTENTS[self.shape])
        return Box(x=self.x - half, y=self.y - above, width=2 * half, height=above + below, category=self.pair)

    @property
    def words(self) -> str:
        return f"a {self.size} {self.colour} {self.shape} at the {PLACES[self.place]}"


@dataclass(frozen=True, kw_only=True)
class Ground:
    colour: str
    texture: str
    phase: tuple[float, float]
    direction: int


@dataclass(frozen=True, kw_only=True)
class Scene:
    things: tuple[Thing, ...]
    ground: Ground

    @property
    def caption(self) -> str:
        *others, last = (thing.words for thing in self.things)
        things = f"{', '.join(others)} and {last}" if others else last
        return f"{things} on a {self.ground.texture} {self.ground.colour} ground"

    def shows(self, pairs: Sequence[str]) -> bool:
        return any(PAIRS[thing.pair] in pairs for thing in self.things)


def scene(config: Drawn, index: int) -> Scene:
    """The scene number `index`: attempt after attempt, each with its own key, until no two of its things overlap."""
    for attempt in itertools.count():
        key = generator("scene", config.seed, index, attempt)
        chances = iter(torch.rand(8 * config.objects + 8, generator=key, dtype=torch.float64).tolist())
        things = sorted((_thing(chances) for _ in range(config.objects)), key=lambda thing: thing.place)
        if all(_apart(a.box, b.box) for a, b in itertools.combinations(things, 2)):
            break
    ground = Ground(
        colour=_choose(tuple(GROUNDS), next(chances)),
        texture=_choose(TEXTURES, next(chances)),
        phase=(next(chances), next(chances)),
        direction=_choose(range(len(_STRIPES)), next(chances)),
    )
    return Scene(things=tuple(things), ground=ground)


def _thing(chances: Iterator[float]) -> Thing:
    colour, shape = _choose(tuple(COLOURS), next(chances)), _choose(SHAPES, next(chances))
    size, place = _choose(tuple(_RADII), next(chances)), _choose(range(len(PLACES)), next(chances))
    smallest, largest = _RADII[size]
    radius = smallest + (largest - smallest) * next(chances)
    half, above, below = (radius * extent + _GAP for extent in _EXTENTS[shape])
    x = 0.22 + 0.28 * (place % 3) + 0.08 * (next(chances) - 0.5)
    y = 0.22 + 0.28 * (place // 3) + 0.08 * (next(chances) - 0.5)
    x, y = min(max(x, half), 1 - half), min(max(y, above), 1 - below)
    return Thing(colour=colour, shape=shape, size=size, place=place, x=x, y=y, radius=radius)


def _choose(options: Sequence[T], chance: float) -> T:
    return options[int(chance * len(options))]


def _apart(a: Box, b: Box) -> bool:
    beside = a.x + a.width + _GAP <= b.x or b.x + b.width + _GAP <= a.x
    return beside or a.y + a.height + _GAP <= b.y or b.y + b.height + _GAP <= a.y


def draw(scene: Scene, size: int) -> tuple[Image.Image, Image.Image]:
    """The picture, RGB, and its label map: 0 the ground, 1 + pair where a thing covers at least half of the pixel."""
    centres = (np.arange(size) + 0.5) / size
    x, y = centres[None, :], centres[:, None]
    first, second = (np.array(tone, float) for tone in GROUNDS[scene.ground.colour])
    picture = first + (second - first) * _texture(scene.ground, x, y, size)[..., None]
    labels = np.zeros((size, size), np.uint8)
    for thing in scene.things:
        covered = _coverage(_distance(thing, x, y), size)
        picture += (np.array(COLOURS[thing.colour], float) - picture) * covered[..., None]
        labels[covered >= 0.5] = 1 + thing.pair
    return Image.fromarray(np.rint(picture).astype(np.uint8)), Image.fromarray(labels)


def _coverage(distance: ndarray, size: int) -> ndarray:
    """How much of each pixel lies inside an edge at the signed `distance` (negative inside) from its centre."""
    return np.clip(0.5 - distance * size, 0, 1)


def _distance(thing: Thing, x: ndarray, y: ndarray) -> ndarray:
    x, y, r = x - thing.x, y - thing.y, thing.radius
    half, above, below = (r * extent for extent in _EXTENTS[thing.shape])
    if thing.shape == "circle":
        return np.sqrt(x * x + y * y) - r
    if thing.shape == "square":
        return np.maximum(abs(x), abs(y)) - half
    height = above + below
    side = (abs(x) * height - half * (y + above)) / hypot(height, half)
    return np.maximum(side, y - below)


def _texture(ground: Ground, x: ndarray, y: ndarray, size: int) -> ndarray:
    """How much of each pixel has the ground's second tone, 0..1."""
    across, down = ground.phase
    if ground.texture == "striped":
        a, b = _STRIPES[ground.direction]
        return _bands(a * x + b * y, 0.3, across, size)
    if ground.texture == "dotted":
        period = 0.3
        u, v = ((x / period + across) % 1 - 0.5) * period, ((y / period + down) % 1 - 0.5) * period
        return _coverage(np.sqrt(u * u + v * v) - 0.3 * period, size)
    if ground.texture == "checkered":
        columns, rows = _bands(x, 0.5, across, size), _bands(y, 0.5, down, size)
        return columns + rows - 2 * columns * rows
    return np.zeros((size, size))


def _bands(along: Float[ndarray, "..."], period: float, phase: float, size: int) -> ndarray:
    """Half of each period inside, half outside."""
    return _coverage((abs((along / period + phase) % 1 - 0.5) - 0.25) * period, size)


def drawn(config: Drawn) -> Found:
    return Found(
        candidates=partial(candidates, config),
        total=config.count,
        classes=PAIRS if config.objects == 1 else None,
        box_classes=PAIRS,
        label_map_classes=("ground", *PAIRS),
        about={"palette": COLOURS, "grounds": GROUNDS},
    )


def view(scene: Scene, size: int) -> View:
    image, label_map = draw(scene, size)
    return View(image=image, label_map=label_map, boxes=tuple(thing.box for thing in scene.things))


def candidates(config: Drawn) -> Iterator[Make]:
    """The scenes 0 to count, each with everything that is known of it."""
    return (partial(_candidate, config, index) for index in range(config.count))


def _candidate(config: Drawn, index: int) -> Candidate:
    each = scene(config, index)
    return Candidate(
        id=f"scene-{index:07d}",
        split="held_out" if each.shows(config.held_out) else None,
        label=PAIRS[each.things[0].pair] if config.objects == 1 else None,
        caption=each.caption,
        licence="CC0-1.0",
        view=partial(view, each),
    )
