"""The order in which training sees examples: a pure function of (seed, step), and reading ahead in that order."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from ldm.data.randomness import generator

S = TypeVar("S")
T = TypeVar("T")


def indices(seed: int, step: int, batch: int, size: int) -> Int[Tensor, " batch"]:
    """Positions of the examples in the batch of `step` (from 0), among `size`.

    The stream of examples is one shuffled epoch after another, each keyed (seed, epoch) and holding every example
    once; a batch may end one epoch and begin the next. Nothing before `step` is replayed.
    """
    if size < 1:
        raise ValueError("no examples to draw from; the split is empty")
    place, end = step * batch, (step + 1) * batch
    parts = []
    while place < end:
        epoch, start = divmod(place, size)
        stop = min(size, start + end - place)
        parts.append(_permutation(seed, epoch, size)[start:stop])
        place += stop - start
    return torch.cat(parts)


def mixed(count: int, size: int) -> Int[Tensor, " count"]:
    """`count` positions among `size` in one fixed shuffled order, each once before any comes again.

    What is sampled, shown or measured of a data set is taken so: in order of id one class follows the other.
    """
    return indices(0, 0, count, size)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> Int[Tensor, " size"]:
    return torch.randperm(size, generator=generator("epoch", seed, epoch))


def workers(default: int = 1) -> int:
    """How many threads or processes read ahead: LDM_WORKERS or `default`; 0: in line.

    Not a parameter, for it changes no result.
    """
    given = os.environ.get("LDM_WORKERS", str(default))
    if not given.isdecimal():
        raise ValueError(f"LDM_WORKERS={given}: expected how many threads read ahead, such as 1 (0: none)")
    return int(given)


def batches(
    read: Callable[[Int[Tensor, " batch"]], T],
    seed: int,
    first_step: int,
    last_step: int,
    batch: int,
    size: int,
    workers: int,
) -> Generator[T, None, None]:
    """`read(indices(seed, step, batch, size))` for each step of range(first_step, last_step), in order, read ahead.

    To be closed as `ahead` is.
    """
    return ahead(lambda step: read(indices(seed, step, batch, size)), range(first_step, last_step), workers)


def ahead(
    call: Callable[[S], T],
    items: Iterable[S],
    workers: int,
    depth: int | None = None,
    pool: Executor | None = None,
) -> Generator[T, None, None]:
    """`map(call, items)`, called up to `depth` (else `2 * workers`) items ahead in `workers` threads; 0: in line.

    With a `pool` it is that which calls, and it is still there afterwards. The results come in the order of the items,
    and an error in `call` is raised at its item. The items are taken in the caller's thread, so one `ahead` can be the
    items of another: a line of workers with something between them.

    Close it (contextlib.closing) where the loop that reads it may raise: left to the garbage collector it may wait for
    its threads in one that is just being started.
    """
    if workers == 0:
        yield from map(call, items)
        return
    beside = pool or ThreadPoolExecutor(workers, thread_name_prefix="read-ahead")
    waiting: deque[Future[T]] = deque()
    try:
        for item in items:
            waiting.append(beside.submit(call, item))
            while waiting and (waiting[0].done() or len(waiting) == (depth or 2 * workers)):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        if pool is None:
            beside.shutdown(wait=True)
