"""How a sample comes to be: what the sampler expects, from its first step to its last (paper, appendix D.1)."""

from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from ldm.data.pictures import grid, to_png


def looked_at(count: int, steps: int) -> list[int]:
    """Which of the steps 1 to `steps`: so many, evenly spaced from the first to the last; of one, the last.

    Raises ValueError where there are not so many.
    """
    if count > steps:
        raise ValueError(f"--estimates {count}: the sampler takes {steps} steps; say so many at most, or more --steps")
    return [steps - i * (steps - 1) // max(1, count - 1) for i in reversed(range(count))]


def strip_beside(path: Path) -> Path:
    """Where the strip of a sample's estimates is."""
    return path.with_name(f"{path.stem}-estimates.png")


def strip(estimates: Sequence[UInt8[Tensor, "3 _ _"]], height: int, width: int) -> bytes:
    """A PNG of them beside one another, most noise at the left; smaller ones enlarged to the last, all cut like it."""
    size = estimates[-1].shape[1:]
    alike = [F.interpolate(picture[None], size=size, mode="nearest")[0] for picture in estimates]
    return to_png(grid([picture[:, :height, :width] for picture in alike], len(alike)))
