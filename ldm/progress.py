"""The record that every long computation yields; whoever iterates decides how to show it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`done` of `total` units are finished; `scalars` and `pictures` are what there is to see at this point.

    A stage that resumes starts with the `done` it found, so rates are computed from differences.
    """

    done: int
    total: int
    unit: str = "steps"
    scalars: Mapping[str, float] = field(default_factory=dict)
    pictures: Mapping[str, Image.Image] = field(default_factory=dict)
    notes: Sequence[str] = ()
    """What a person must be told, a line each: a training that goes wrong, a latent space that will not do."""
