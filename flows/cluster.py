"""Shards of a stage on a Dask cluster: its workers make them in this folder, and the stage finds them made.

A shard has the same bytes in whatever process it is made, and is found by its hash: what a lost worker left half is
made again. The workers share this folder, and are started in it (docs/many-machines.md).
"""

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from flows.inputs import key
from ldm.progress import Progress

DASK = "FLOWS_DASK"
"""Environment variable with the address of a Dask scheduler, as tcp://head:8786."""


def helped(
    stage: Callable[[str], Iterator[Progress]], stage_name: str, address: str
) -> Callable[[str], Iterator[Progress]]:
    """`stage`, its shards made by the cluster at `address` before; as it is where it has none."""
    if not hasattr(import_module(f"flows.{stage_name}"), "shards"):
        return stage

    def both(name: str) -> Iterator[Progress]:
        yield from made(stage_name, name, address)
        yield from stage(name)

    return both


def made(stage_name: str, name: str, address: str) -> Iterator[Progress]:
    """Have the cluster make all shards that are not there; a record each.

    Raises ValueError of one line where no scheduler answers, it has no workers, they die or see other inputs. Where all
    are lost it waits for new ones.
    """
    try:
        from distributed import Client, KilledWorker, as_completed  # here, for it is an extra
    except ImportError:
        raise ValueError(f"{DASK} needs Dask: pip install -c constraints.txt -e '.[cluster]'") from None
    try:
        client = Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{DASK}={address}: no Dask scheduler answers there ({type(error).__name__})") from None
    inputs = key(stage_name, name)
    Path(".resume", stage_name, name, inputs).mkdir(parents=True, exist_ok=True)
    with client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        if not workers or any(worker["nthreads"] != 1 for worker in workers.values()):
            start = f"python -m distributed.cli.dask_worker {address} --nthreads 1"  # numerics are set thread by thread
            what = "a worker has several threads" if workers else "the scheduler has no workers"
            raise ValueError(f"{DASK}={address}: {what}; start each in this folder: {start}")
        starts = list(_planned(stage_name, name, inputs).starts())
        futures = client.map(_make, starts, stage_name=stage_name, name=name, inputs=inputs, pure=False)
        for done, future in enumerate(as_completed(futures, loop=client.loop), 1):
            try:
                future.result()
            except KilledWorker:
                said = "several workers died of one shard; why is in their logs"
                raise ValueError(f"{DASK}={address}: {said}") from None
            except ValueError as error:  # as it was said on the worker
                raise ValueError(str(error)) from None
            yield Progress(done=done, total=len(starts), unit="shards")


def _make(start: int, stage_name: str, name: str, inputs: str) -> None:
    """On a worker: one shard, kept in the stage's resume folder."""
    _of_worker(stage_name, name, inputs).batch(start)


def _planned(stage_name: str, name: str, inputs: str) -> Any:
    return import_module(f"flows.{stage_name}").shards(name, Path(".resume", stage_name, name, inputs))


_works: dict[tuple[str, ...], Any] = {}


def _of_worker(*which: str) -> Any:
    """A worker loads the models, and reads the inputs for their hash, once for all shards of a stage."""
    if which not in _works:
        _works.clear()  # first, for it may hold what the next needs: memory of a GPU, or a database
        stage_name, name, inputs = which
        if key(stage_name, name) != inputs:
            where = f"{Path.cwd()} on {os.uname().nodename}"
            raise ValueError(f"{where}: other inputs or versions than where the stage runs")
        _works[which] = _planned(stage_name, name, inputs)
    return _works[which]
