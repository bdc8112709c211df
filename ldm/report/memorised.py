"""What is known of samples that are training pictures, in words and pictures beside the samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ldm.report import pictures
from ldm.report.album import Album
from ldm.report.collect import Metrics, Results
from ldm.report.pictures import Neighbour

WAYS = {"features": "features", "pixels": "pixels at 16 x 16"}
"""How pictures were compared, by the names of about.memorised."""
DEVIATIONS = 3
"""So many standard deviations above one half is more than chance."""


@dataclass(frozen=True, kw_only=True)
class NeighboursView:
    name: str
    pairs: list[Neighbour]
    looked_up: int
    memorised: int
    """Of those looked up."""
    train: int
    unseen: int
    """Held-out pictures by which the rule was set."""
    unseen_share: str
    """How many of these the rule calls memorised, at most."""
    closer: str
    """How often a sample is closer to a training picture than a held-out picture is, by each way of comparing."""
    too_close: str
    """The ways in which all samples together are closer than chance explains; empty where they are not."""


def neighbours_view(one: Metrics, results: Results, album: Album) -> NeighboursView | None:
    samples = results.samples[one.section.text("samples")]
    prepared = results.datasets.get(one.section.text("dataset"))
    if not one.about.get("neighbours") or prepared is None:
        return None
    rule = one.about.table("memorised")
    looked_up, unseen = rule.count("of"), rule.count("held_out")
    closer = {words: rule.table(way).number("closer_than_held_out") for way, words in WAYS.items()}
    chance = 0.5 + DEVIATIONS * _deviation(looked_up, unseen)
    return NeighboursView(
        name=samples.name,
        pairs=pictures.neighbours(one, samples, prepared, album),
        looked_up=looked_up,
        memorised=round(one.figures.number("memorised") * looked_up),
        train=rule.count("train"),
        unseen=unseen,
        unseen_share=f"{100 * rule.number('expected_at_most'):.2g}\u00a0%",
        closer=", ".join(f"{100 * share:.0f}\u00a0% by {words}" for words, share in closer.items()),
        too_close=" and ".join(words for words, share in closer.items() if share > chance),
    )


def memorised_ids(measured: Sequence[Metrics]) -> set[tuple[str, int]]:
    """Id and seed of the samples that are listed as training pictures, or nearly."""
    listed = (entry for one in measured for entry in one.about.get("neighbours", []))
    return {(entry["id"], entry["seed"]) for entry in listed if entry["memorised"]}


def _deviation(samples: int, held_out: int) -> float:
    """Standard deviation of that share where samples are no closer than held-out pictures (Mann and Whitney 1947)."""
    return math.sqrt((samples + held_out + 1) / (12 * samples * held_out))
