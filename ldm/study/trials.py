"""Which pictures meet, on which side and in which list: a pure function of the section, originals' ids and a secret.

Every choice is a rank by a keyed hash of (secret, what is ranked), so it depends on nothing but its own name, and what
a rater can see (names of trials and of files) tells nothing about the methods without the secret.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import gcd
from typing import Any, Literal, TypeVar

from ldm.study.config import Study

Shown = Literal["first", "second", "original", "mosaic"]
Side = Literal["left", "right"]
Item = TypeVar("Item")

COMPARISONS: tuple[tuple[Shown, Shown], ...] = (("first", "original"), ("second", "original"), ("first", "second"))
"""Task 1 for each of the two models, then task 2."""
EVIDENT: tuple[Shown, Shown] = ("original", "mosaic")
"""Practice and attention checks: everyone who looks chooses the original."""
GOLDEN = (1 + 5**0.5) / 2


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One forced choice between two pictures made from the same original."""

    name: str
    """What the public page and the answers call it."""
    source: str
    """The original's id."""
    left: Shown
    right: Shown
    rotation: int
    """In which of the rotations of the Latin square it stands: its two pictures have names of their own there."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    practice: tuple[Trial, ...]
    """The same for every rater."""
    lists: tuple[tuple[Trial, ...], ...]
    """A rater answers one of them, all round, begun where `sheet` says: attention checks among the trials."""


def keyed(secret: str, *position: Any) -> str:
    """32 hexadecimal digits, random to whoever lacks the secret. Positions must be told apart by their `str`."""
    message = "\0".join(str(part) for part in position)
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()[:32]


def plan(config: Study, sources: Sequence[str], secret: str) -> Plan:
    """The trials of a study over the originals `sources` (ids, at least `config.originals` of them).

    Six lists: three rotations of a Latin square (each third of the originals stands in another comparison in each), and
    each once more with the sides changed and run backwards. Over all lists, then, every original is in every
    comparison, on both sides. Within a list no original comes twice, the practice included, and in each comparison the
    two kinds stand on either side equally often (odd counts differ by one).

    A list is a circle, on which each comparison, and the attention checks, are spread: of k of a kind, neighbours are
    half to one and a half k-ths of the circle apart. A rater goes round it once (`sheet`).
    """
    assert len(set(sources)) == len(sources) >= config.originals
    ranked = sorted(sources, key=lambda source: keyed(secret, "source", source))
    sizes = [config.trials] * len(COMPARISONS) + [config.catch, config.practice]
    *thirds, catch, practice = [ranked[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]
    lists: list[tuple[Trial, ...]] = []
    for rotation in range(len(COMPARISONS)):
        blocks = [(pair, thirds[(b + rotation) % len(thirds)]) for b, pair in enumerate(COMPARISONS)]
        blocks.append((EVIDENT, catch))
        circle = _circle(secret, rotation, [len(chosen) for _, chosen in blocks])
        for mirrored in (False, True):
            trials = [
                _sided(secret, rotation, str(block), block % 2 ^ mirrored, pair, chosen, str(len(lists)))
                for block, (pair, chosen) in enumerate(blocks)
            ]
            one_way = [trials[block][i] for block, i in circle]
            lists.append(tuple(reversed(one_way) if mirrored else one_way))
    return Plan(practice=tuple(_sided(secret, 0, "practice", 0, EVIDENT, practice, "practice")), lists=tuple(lists))


def stride(count: int) -> int:
    """How far apart, on a circle of `count`, the beginnings of one rater and the next of the same list are.

    Prime to `count`, so that each beginning is taken once before one is taken again, and of such numbers the next to
    the golden section, so that a few raters begin far apart too.
    """
    return min((step for step in range(1, count + 1) if gcd(step, count) == 1), key=lambda s: abs(s - count / GOLDEN))


def sheet(lists: Sequence[Sequence[Item]], number: int) -> list[Item]:
    """What the rater of sheet `number` (0, 1, ...) is shown, in order: a list, begun at one of its trials.

    Six lists of n trials make 6 n sheets. Over them each trial of a list stands at each position once, so each pair of
    pictures does, on each side, and follows its neighbour on the circle as often as it precedes it. Any first m sheets
    give lists that differ by one rater at most; sheet 6 n is sheet 0 again, so more raters than that start anew.
    """
    own = lists[number % len(lists)]
    start = number // len(lists) * stride(len(own)) % len(own)
    return [*own[start:], *own[:start]]


def _circle(secret: str, rotation: int, sizes: Sequence[int]) -> list[tuple[int, int]]:
    """(block, index within it) of all trials, each block spread: in its k-ths of the circle one each, jittered by half.

    Where a block's k-ths begin is drawn, and which trial is written first, so a place says nothing about the block.
    """
    placed = []
    for block, size in enumerate(sizes):
        begin = _fraction(secret, "begin", rotation, block)
        by_rank = sorted(range(size), key=lambda i: keyed(secret, "order", rotation, block, i))
        for rank, i in enumerate(by_rank):
            jitter = _fraction(secret, "jitter", rotation, block, i) / 2
            placed.append(((begin + (rank + jitter) / size) % 1, block, i))
    circle = [(block, i) for _, block, i in sorted(placed)]
    first = int(_fraction(secret, "first", rotation) * len(circle))
    return [*circle[first:], *circle[:first]]


def _fraction(secret: str, *position: Any) -> float:
    """In [0, 1)."""
    return int(keyed(secret, *position)[:13], 16) / 16**13


def _sided(
    secret: str, rotation: int, block: str, parity: int, pair: tuple[Shown, Shown], sources: Sequence[str], within: str
) -> list[Trial]:
    """Half of the pairs swapped, the other half with the other `parity`; where odd, the one left over follows it."""
    by_rank = sorted(range(len(sources)), key=lambda i: keyed(secret, "side", rotation, block, i))
    swapped = {i for rank, i in enumerate(by_rank) if (rank + parity) % 2}
    return [
        Trial(
            name=keyed(secret, "trial", within, block, i)[:12],
            source=source,
            left=pair[i in swapped],
            right=pair[i not in swapped],
            rotation=rotation,
        )
        for i, source in enumerate(sources)
    ]
