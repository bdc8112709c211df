"""Which pictures meet, on which side and in which list: a pure function of the section, originals' ids and a secret.

Every choice is a rank by a keyed hash of (secret, what is ranked), so it depends on nothing but its own name, and what
a rater can see (names of trials and of files) tells nothing about the methods without the secret.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from ldm.study.config import Study

Shown = Literal["first", "second", "original", "mosaic"]
Side = Literal["left", "right"]

COMPARISONS: tuple[tuple[Shown, Shown], ...] = (("first", "original"), ("second", "original"), ("first", "second"))
"""Task 1 for each of the two models, then task 2."""
EVIDENT: tuple[Shown, Shown] = ("original", "mosaic")
"""Practice and attention checks: everyone who looks chooses the original."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One forced choice between two pictures made from the same original."""

    name: str
    """What the public page and the answers call it."""
    source: str
    """The original's id."""
    left: Shown
    right: Shown


@dataclass(frozen=True, kw_only=True)
class Plan:
    practice: tuple[Trial, ...]
    """The same for every rater."""
    lists: tuple[tuple[Trial, ...], ...]
    """A rater answers one of them: attention checks among the trials, in an order that tells nothing."""


def keyed(secret: str, *position: Any) -> str:
    """32 hexadecimal digits, random to whoever lacks the secret. Positions must be told apart by their `str`."""
    message = "\0".join(str(part) for part in position)
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()[:32]


def plan(config: Study, sources: Sequence[str], secret: str) -> Plan:
    """The trials of a study over the originals `sources` (ids, at least `config.originals` of them).

    Six lists: three rotations of a Latin square (each third of the originals stands in another comparison in each), and
    each once more with the sides changed. Over all lists, then, every original is in every comparison, on both sides.
    Within a list no original comes twice, the practice included, and in each comparison the two kinds stand on either
    side equally often (odd counts differ by one).
    """
    assert len(set(sources)) == len(sources) >= config.originals
    ranked = sorted(sources, key=lambda source: keyed(secret, "source", source))
    sizes = [config.trials] * len(COMPARISONS) + [config.catch, config.practice]
    *thirds, catch, practice = [ranked[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]
    lists: list[tuple[Trial, ...]] = []
    for rotation in range(len(COMPARISONS)):
        blocks = [(pair, thirds[(b + rotation) % len(thirds)]) for b, pair in enumerate(COMPARISONS)]
        blocks.append((EVIDENT, catch))
        for mirrored in (False, True):
            trials = [
                trial
                for block, (pair, chosen) in enumerate(blocks)
                for trial in _sided(secret, f"{rotation}-{block}", block % 2 ^ mirrored, pair, chosen, str(len(lists)))
            ]
            lists.append(tuple(sorted(trials, key=lambda trial: keyed(secret, "order", trial.name))))
    return Plan(practice=tuple(_sided(secret, "practice", 0, EVIDENT, practice, "practice")), lists=tuple(lists))


def _sided(
    secret: str, block: str, parity: int, pair: tuple[Shown, Shown], sources: Sequence[str], within: str
) -> list[Trial]:
    """Half of the pairs swapped, the other half with the other `parity`; where odd, the one left over follows it."""
    by_rank = sorted(range(len(sources)), key=lambda i: keyed(secret, "side", block, i))
    swapped = {i for rank, i in enumerate(by_rank) if (rank + parity) % 2}
    return [
        Trial(
            name=keyed(secret, "trial", within, block, i)[:12],
            source=source,
            left=pair[i in swapped],
            right=pair[i not in swapped],
        )
        for i, source in enumerate(sources)
    ]
