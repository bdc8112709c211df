"""Processes that work beside this one where Python's lock would let threads do little at a time."""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import torch


@cache
def processes(count: int) -> ProcessPoolExecutor:
    """A pool of `count`, there until this process ends; they end with it, even where it is killed.

    They are forked from a server that has imported what this process runs and has nothing else of it, neither its
    threads nor its GPU. It takes seconds to start, on a thread, so that models can be loaded meanwhile.
    """
    context = multiprocessing.get_context("forkserver")
    ran = getattr(sys.modules["__main__"], "__spec__", None)
    context.set_forkserver_preload([__name__, *([ran.name] if ran and not ran.name.endswith("__main__") else [])])
    pool = ProcessPoolExecutor(count, context, _begin, (torch.get_num_threads(),))
    atexit.register(pool.shutdown)  # left to the interpreter's end, CPython complains there
    threading.Thread(target=pool.submit, args=(int,), daemon=True).start()
    return pool


def available() -> bool:
    """A process that ends with its parent (a Dask worker is one) may have none."""
    return not multiprocessing.current_process().daemon


def _begin(threads: int) -> None:
    """Compute as `ldm.training.exact.setup` has the parent compute, and watch it."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of a terminal; the parent ends the rest
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
