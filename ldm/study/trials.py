"""Which pictures meet, on which side and in which order: a pure function of the section and the originals' ids.

Every choice is a rank by a keyed hash of (seed, what is ranked), so it depends on nothing but its own name, and what a
rater can see (names of trials and of files) tells nothing about the methods without the seed.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
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
    trials: tuple[Trial, ...]
    """In the order shown, attention checks among them."""


def keyed(seed: int, *position: Any) -> str:
    """32 hexadecimal digits that are random to whoever lacks the seed. Positions must be told apart by their `str`."""
    message = "\0".join(str(part) for part in position)
    return hmac.new(str(seed).encode(), message.encode(), hashlib.sha256).hexdigest()[:32]


def plan(config: Study, sources: Sequence[str]) -> Plan:
    """The trials of a study over the originals `sources` (ids, at least `config.trials` of them).

    No original appears twice in one comparison, and none twice in the study where there are enough of them. Within each
    comparison the two kinds stand on either side equally often (odd counts differ by one).
    """
    assert len(set(sources)) == len(sources) >= config.trials
    ranked = sorted(sources, key=lambda source: keyed(config.seed, "source", source))
    blocks = [(pair, config.trials) for pair in COMPARISONS] + [(EVIDENT, config.catch), (EVIDENT, config.practice)]
    made: list[list[Trial]] = []
    start = 0
    for block, (pair, count) in enumerate(blocks):
        chosen = [ranked[(start + i) % len(ranked)] for i in range(count)]
        made.append(_sided(config.seed, block, pair, chosen))
        start += count
    *recorded, practice = made
    trials = [trial for group in recorded for trial in group]
    return Plan(
        practice=tuple(practice),
        trials=tuple(sorted(trials, key=lambda trial: keyed(config.seed, "order", trial.name))),
    )


def _sided(seed: int, block: int, pair: tuple[Shown, Shown], sources: Sequence[str]) -> list[Trial]:
    by_rank = sorted(range(len(sources)), key=lambda i: keyed(seed, "side", block, i))
    # Where the count is odd, the one left over stands on alternating sides from block to block.
    swapped = {i for rank, i in enumerate(by_rank) if (rank + block) % 2}
    return [
        Trial(
            name=keyed(seed, "trial", block, i)[:12],
            source=source,
            left=pair[i in swapped],
            right=pair[i not in swapped],
        )
        for i, source in enumerate(sources)
    ]
