"""Draws all that a command asked for, batch by batch, with a bar that moves, and writes it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ldm.cli import options
from ldm.cli.bar import bar
from ldm.cli.estimates import looked_at, strip, strip_beside
from ldm.cli.models import Opened, enough_memory
from ldm.cli.outputs import distinct, refuse_existing
from ldm.cli.rows import Item, encoded
from ldm.data.pictures import encode
from ldm.files import write_bytes
from ldm.sampling.config import Drawing
from ldm.sampling.draw import NO_NETWORKS, draw
from ldm.sampling.guides import Networks
from ldm.sampling.plan import evaluations

Work = tuple[Item, int, Path]
"""One picture: of what, by which number, to where."""


def draw_all(
    opened: Opened,
    items: Sequence[Item],
    drawing: Drawing,
    how: options.How,
    where: options.Where,
    *,
    paste: bool = False,
    latents: bool = False,
    networks: Networks = NO_NETWORKS,
    estimates: int = 0,
) -> list[Path]:
    """`how.count` pictures of each item, to `OUT/NAME-SEED.png`; returns where they are.

    `latents`: whether the latent of an item's picture is read. `estimates`: how many of what the sampler expected on
    its way stand in a strip, `OUT/NAME-SEED-estimates.png`.
    """
    work = [
        (item, seed, where.out / f"{name}-{seed}.png")
        for item, name in zip(items, distinct([item.name for item in items]), strict=True)
        for seed in range(how.seed, how.seed + how.count)
    ]
    steps = evaluations(opened.model, drawing)
    looks = looked_at(estimates, steps)
    written = [each for _, _, path in work for each in ([path, strip_beside(path)] if looks else [path])]
    refuse_existing(written, where.overwrite)
    batches = list(_batches(work, how.batch))
    with bar("drawing", len(batches) * steps, "steps") as advance, enough_memory(opened.device):
        for batch in batches:
            first = batch[0][0]
            size = drawing if first.size is None else drawing.model_copy(update={"size": list(first.size)})
            rows = encoded(_stacked(opened, batch), opened.first_stage, opened.channels, latents=latents, tile=how.tile)
            numbers, prompts = [number for _, number, _ in batch], [item.prompt for item, _, _ in batch]
            seen = []
            for step in draw(
                opened.model, opened.first_stage, rows, numbers, size,
                paste=paste, networks=networks, prompts=prompts,
            ):  # fmt: skip
                advance()
                if step.done in looks or step.done == step.total:
                    seen.append(step.pictures())
            for (item, _, path), *pictures in zip(batch, *seen, strict=True):
                height, width = item.kept or pictures[-1].shape[1:]
                write_bytes(path, encode(pictures[-1][:, :height, :width]))
                if looks:
                    write_bytes(strip_beside(path), strip(pictures, height, width))
    return written


def _batches(work: Sequence[Work], most: int) -> Iterator[list[Work]]:
    """Those whose rows have the same shapes together."""
    alike: dict[object, list[Work]] = {}
    for each in work:
        item = each[0]
        key = (item.size, *((name, column.shape) for name, column in sorted(item.rows.items())))
        alike.setdefault(key, []).append(each)
    for group in alike.values():
        for start in range(0, len(group), most):
            yield group[start : start + most]


def _stacked(opened: Opened, batch: Sequence[Work]) -> dict[str, Tensor]:
    names = batch[0][0].rows
    return {name: torch.stack([item.rows[name] for item, _, _ in batch]).to(opened.device) for name in names}
