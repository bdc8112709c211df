"""Which tensor of ours is which of theirs, and the only two ways in which they are written differently."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

SHOWN = 6
"""Names that an error lists before it says how many more there are."""


@dataclass(frozen=True)
class Link:
    """One tensor of ours and the one, or the queries, keys and values, that it is in theirs."""

    ours: str
    theirs: tuple[str, ...]
    heads: int = 1
    """Where theirs are queries, keys and values: ours holds the three beside each other, head by head."""
    dims: int | None = None
    """Dimensions of theirs, where a 1x1 kernel is written with fewer (a linear layer, Conv1d); None: as ours."""


def both(ours: str, theirs: str, dims: int | None = None) -> Iterator[Link]:
    """Weight and bias of one layer. `dims` is about the weight."""
    yield Link(f"{ours}.weight", (f"{theirs}.weight",), dims=dims)
    yield Link(f"{ours}.bias", (f"{theirs}.bias",))


def qkv(ours: str, theirs: tuple[str, str, str], heads: int, dims: int | None = None) -> Iterator[Link]:
    """Weight and bias of our one layer that theirs is three of."""
    yield Link(f"{ours}.weight", tuple(f"{name}.weight" for name in theirs), heads, dims)
    yield Link(f"{ours}.bias", tuple(f"{name}.bias" for name in theirs), heads)


def read(
    links: Iterable[Link], theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], where: str
) -> dict[str, Tensor]:
    """Our state dict, float32, with the shapes of `ours` (which may be on the meta device).

    Every tensor of theirs must be one that a link names, and every tensor of ours must come of one: otherwise a
    ValueError of one line that begins with `where` and lists what is missing, unknown or of another shape.
    """
    links = list(links)
    _covers(links, ours)
    named = [name for link in links for name in link.theirs]
    missing = [name for name in named if name not in theirs]
    unknown = sorted(set(theirs) - set(named))
    if missing or unknown:
        found = [("missing", missing), ("unknown", unknown)]
        raise ValueError(f"{where}: " + "; ".join(f"{what}: {listed(names)}" for what, names in found if names))
    wrong, state = [], {}
    for link in links:
        parts, shape = [theirs[name] for name in link.theirs], ours[link.ours].shape
        expected = _split_shape(link, shape)
        if any(_plain(part.shape) != _plain(expected) for part in parts):
            wrong.append(f"{link.theirs[0]} is {list(parts[0].shape)}, not {list(expected)}")
            continue
        state[link.ours] = _joined(link, parts).reshape(shape).to(torch.float32).contiguous()
    if wrong:
        raise ValueError(f"{where}: another architecture: {listed(wrong)}")
    return state


def write(links: Iterable[Link], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their state dict: the inverse of `read`."""
    links = list(links)
    _covers(links, ours)
    state = {}
    for link in links:
        tensor = ours[link.ours]
        parts = [tensor]
        if len(link.theirs) == 3:
            split = rearrange(tensor, "(n three c) ... -> three (n c) ...", three=3, n=link.heads)
            parts = list(split)
        for name, part in zip(link.theirs, parts, strict=True):
            state[name] = part.reshape(part.shape[: link.dims]).contiguous().clone()
    return state


def listed(names: list[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _covers(links: list[Link], ours: Mapping[str, Tensor]) -> None:
    named = [link.ours for link in links]
    assert len(set(named)) == len(named), "a tensor of ours is named twice"
    assert set(named) == set(ours), f"named and there differ in {sorted(set(named) ^ set(ours))[:SHOWN]}"


def _joined(link: Link, parts: list[Tensor]) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    return rearrange(torch.stack(parts), "three (n c) ... -> (n three c) ...", n=link.heads)


def _split_shape(link: Link, shape: torch.Size) -> tuple[int, ...]:
    whole = tuple(shape[: link.dims])
    return whole if len(link.theirs) == 1 else (whole[0] // 3, *whole[1:])


def _plain(shape: Iterable[int]) -> tuple[int, ...]:
    """Without the ones at the end, in which a 1x1 kernel and a linear layer differ."""
    sizes = list(shape)
    while sizes and sizes[-1] == 1:
        sizes.pop()
    return tuple(sizes)
