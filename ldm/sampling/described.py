"""Which original each sample belongs to, and what the latents say of it: the same for every way of making samples."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from ldm.data.batches import mixed
from ldm.data.latents import Latents
from ldm.data.pictures import encode
from ldm.data.samples import Sample, mask_png


def order(data: Latents, count: int) -> Int[Tensor, " count"]:
    """The row of each of `count` samples: every picture as it was first drawn, in one order, whatever the seed."""
    first_draws = (data.draws == 0).nonzero().flatten()
    return first_draws[mixed(count, len(first_draws))]


def described(
    data: Latents,
    wanted: Sequence[int],
    pictures: Sequence[UInt8[Tensor, "3 _ _"]],
    seen: UInt8[Tensor, "b 3 h w"] | None,
    first: int,
    masks: bool,
) -> Iterator[Sample]:
    """The `pictures` as the samples `first`, `first` + 1, ..., each with what its row of `wanted` says.

    `seen` is what was shown for each, `masks` whether their masks were.
    """
    rows = data.read(torch.tensor(wanted))
    low = rows.get("low_resolution")
    for i, picture in enumerate(pictures):
        label = int(rows["label"][i])
        yield Sample(
            id=data.ids[wanted[i]],
            seed=first + i,
            image=encode(picture),
            label=None if label < 0 else label,
            caption=data.caption(wanted[i]),
            low_resolution=None if low is None else encode(low[i]),
            shown=None if seen is None else encode(seen[i]),
            mask=mask_png(rows["mask"][i]) if masks else None,
        )
