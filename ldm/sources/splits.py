"""Which part each picture belongs to: by content, so that near-copies never straddle two parts.

Two pictures are near-copies where their 8 x 8 thumbnails differ by at most 12 of 255 anywhere and six averages over
large parts of them by at most 3: saved again, scaled, a little brighter; not cropped, turned or mirrored. Of 785 photos
all halved ones are found, and 98 % of those saved again at JPEG quality 50; 16,531 pictures of CIFAR-10 stay apart.

Groups are the connected components. A group's part follows from its smallest content hash alone, so adding pictures
moves no other picture, but for near-copies of those added.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SIDE = 8
_DETAIL = 12  # largest difference of two near-copies in a value of the thumbnail
_COARSE = 3  # and in an average
_CELL = 16  # of the grid in which near averages are looked up: larger cells hold more, smaller ones are more
_STRONGEST = ("test", "validation")
_PAIRS = 100_000


def thumbnail(image: Image.Image) -> UInt8[ndarray, "8 8 3"]:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))


def near_copies(thumbnails: UInt8[ndarray, "n 8 8 3"]) -> Int[ndarray, " n"]:
    """A number for each picture, the same for all of one group of near-copies."""
    distinct, which = np.unique(thumbnails.reshape(len(thumbnails), -1), axis=0, return_inverse=True)
    averages = _averages(distinct.reshape(-1, SIDE, SIDE, 3).astype(np.float64))
    first, second = _near(distinct.astype(np.int16), averages)
    links = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(distinct), len(distinct)))
    return connected_components(links, directed=False)[1][which.reshape(-1)]


def _averages(thumbnails: Float[ndarray, "n 8 8 3"]) -> Float[ndarray, "n 6"]:
    """Red, green, blue; brightness of the top, of the left and of the middle."""
    grey, half, quarter = thumbnails.mean(-1), SIDE // 2, SIDE // 4
    parts = [grey[:, :half], grey[:, :, :half], grey[:, quarter:-quarter, quarter:-quarter]]
    return np.column_stack([thumbnails.mean((1, 2)), *(part.mean((1, 2)) for part in parts)])


def _near(thumbnails: Int[ndarray, "n 192"], averages: Float[ndarray, "n 6"]) -> tuple[ndarray, ndarray]:
    """All pairs of near-copies: each picture looks into every cell that a near average may fall into."""
    weights = (256 // _CELL + 2) ** np.arange(averages.shape[1])
    home = (averages // _CELL).astype(np.int64) @ weights
    order = np.argsort(home, kind="stable")
    sorted_home = home[order]
    low, high = ((averages + shift).clip(0) // _CELL for shift in (-_COARSE, _COARSE))
    found: list[tuple[ndarray, ndarray]] = []
    for corner in range(2 ** averages.shape[1]):
        up = (corner >> np.arange(averages.shape[1])) & 1 == 1
        here = np.flatnonzero(((low != high) | ~up).all(1))  # where low is high, the cell was looked into already
        cell = np.where(up, high[here], low[here]).astype(np.int64) @ weights
        start, stop = np.searchsorted(sorted_home, cell), np.searchsorted(sorted_home, cell, side="right")
        for mine, theirs in _pairs(here, start, stop):
            found.append(_verified(mine, order[theirs], thumbnails, averages))
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])


def _pairs(here: ndarray, start: ndarray, stop: ndarray):
    """(here[i], each of start[i]..stop[i]) for all i, about _PAIRS at a time."""
    counts = stop - start
    for part in np.split(np.arange(len(here)), np.flatnonzero(np.diff(np.cumsum(counts) // _PAIRS)) + 1):
        of = counts[part]
        offsets = np.arange(of.sum()) - np.repeat(np.cumsum(of) - of, of)
        yield np.repeat(here[part], of), np.repeat(start[part], of) + offsets


def _verified(mine: ndarray, theirs: ndarray, thumbnails: ndarray, averages: ndarray) -> tuple[ndarray, ndarray]:
    once = mine < theirs
    mine, theirs = mine[once], theirs[once]
    coarse = (abs(averages[mine] - averages[theirs]) <= _COARSE).all(1)
    mine, theirs = mine[coarse], theirs[coarse]
    detail = (abs(thumbnails[mine] - thumbnails[theirs]) <= _DETAIL).all(1)
    return mine[detail], theirs[detail]


def assign(
    groups: Sequence[int], hashes: Sequence[str], given: Sequence[str | None], validation: float, test: float
) -> list[str | None]:
    """The part of each picture, from its group, its content hash (hexadecimal) and the split its source gives.

    held_out is by meaning, not by content: a small blue circle may look like a small blue square, and that difference
    is what is held out. `train` as given is cut into train and validation like what is not given at all. Of a group
    that touches a given test or validation split only the members of the stronger stay (test); the others get None.
    """
    keys: dict[int, str] = {}
    strongest: dict[int, int] = {}
    for group, content, split in zip(groups, hashes, given, strict=True):
        if split in _STRONGEST:
            strongest[group] = min(_STRONGEST.index(split), strongest.get(group, len(_STRONGEST)))
        elif split != "held_out":
            keys[group] = min(content, keys.get(group, content))
    parts: list[str | None] = []
    for group, split in zip(groups, given, strict=True):
        if split == "held_out":
            parts.append(split)
        elif group in strongest:
            parts.append(split if split == _STRONGEST[strongest[group]] else None)
        else:
            chance = int(keys[group][:16], 16) / 2**64
            parts.append("test" if chance < test else "validation" if chance < test + validation else "train")
    return parts
