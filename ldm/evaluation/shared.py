"""Batches that several processes share: each computes every so many-th, and all have the results in order."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor

from ldm.training.several import Processes

B = TypeVar("B")
Measured = Mapping[str, Tensor]
"""What was computed of a batch, on the CPU, by name."""


def shared(
    batches: Iterable[B], compute: Callable[[B], Measured], processes: Processes
) -> Iterator[tuple[B, Measured]]:
    """Each of `batches`, in order, with what `compute` gives of it; the same in every process, alone or among several.

    Those that share go through the same batches to the end, for they wait for each other.
    """
    left = iter(batches)
    while turn := list(islice(left, processes.count)):
        mine = compute(turn[processes.rank]) if processes.rank < len(turn) else {}
        yield from zip(turn, _of_all(mine, processes), strict=False)  # the last turn may have fewer batches


def _of_all(mine: Measured, processes: Processes) -> list[Measured]:
    """What each process computed, by rank."""
    whole = {name: tensor.contiguous() for name, tensor in mine.items()}
    if processes.count == 1:
        return [whole]
    packed = torch.frombuffer(bytearray(save(whole)), dtype=torch.uint8).to(processes.device)
    sizes = processes.gathered(torch.tensor([len(packed)], device=processes.device)).tolist()
    every = processes.gathered(F.pad(packed, (0, max(sizes) - len(packed)))).cpu().view(processes.count, -1)
    parts = [load(part[:size].numpy().tobytes()) for part, size in zip(every, sizes, strict=True)]
    # Copied to where torch begins tensors: the last digits of a sum may depend on that.
    return [{name: tensor.clone() for name, tensor in part.items()} for part in parts]
