"""Does the memory of a training process stay the same from a thousand latents to a million, and is a batch read at
memory speed?

Latents of --shape (channels x height x width) are written by the project's own writer, with ids, labels and draws.
Each count is opened in a process of its own. Its resident memory is told apart as the kernel does: `anonymous` is what
the process needs; pages of the memory-mapped files are the kernel's, which it drops when anyone needs the room.
"""

import json
import multiprocessing
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import arguments, result, side_by_side, table, write
from ldm.data.latents import Latents, write_latents
from ldm.files import write_json, write_manifest

COUNTS = (1_000, 10_000, 100_000, 1_000_000)
CHUNK = 4096


def make(folder: Path, count: int, shape: tuple[int, ...]) -> None:
    """A folder of `count` random KL latents: mean and standard deviation."""
    generator = torch.Generator().manual_seed(0)
    with write_latents(folder, "train", {"mean": shape, "std": shape}) as append:
        for start in range(0, count, CHUNK):
            rows = range(start, min(start + CHUNK, count))
            mean, std = (torch.rand((len(rows), *shape), generator=generator) for _ in range(2))
            append([f"{row:09}" for row in rows], [0] * len(rows), [0] * len(rows), {"mean": mean, "std": std})
    info = {"kind": "kl", "counts": {"train": count}, "shapes": {"mean": shape, "std": shape}, "latent_shape": shape}
    write_json(folder / "latents.json", info)
    write_manifest(folder)


def memory() -> dict[str, float]:
    """MB of this process in memory: its own, and pages of files that it has mapped."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {name: int(status[key].split()[0]) / 1024 for name, key in (("anonymous", "RssAnon"), ("mapped", "RssFile"))}


def read_batches(latents: Latents, batch: int, batches: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(batches):
        latents.read(torch.randint(len(latents), (batch,), generator=generator))


def opened(folder: Path, batch: int, batches: int) -> dict[str, dict[str, float]]:
    """Memory before the latents are opened, after, and after some random batches."""
    before = memory()
    latents = Latents(folder, "train")
    after = memory()
    read_batches(latents, batch, batches)
    return {"before": before, "opened": after, "read": memory()}


def _into_pipe(pipe: Any, *work: Any) -> None:
    pipe.send(json.dumps(opened(*work)))


def in_new_process(*work: Any) -> dict[str, dict[str, float]]:
    """`opened`, in a process that has opened nothing before."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_into_pipe, args=(theirs, *work))
    process.start()
    answer = json.loads(ours.recv())
    process.join()
    return answer


def readers(folder: Path, batch: int) -> dict[str, Any]:
    """The same random rows from the files, and by numpy from arrays of the same size that are in memory."""
    latents = Latents(folder, "train")
    arrays = [latents.read(torch.arange(len(latents)), [name])[name].numpy() for name in ("mean", "std")]
    rows = np.random.default_rng(2)

    def mapped() -> None:
        latents.read(torch.from_numpy(rows.integers(len(latents), size=batch)))

    def in_memory() -> None:
        wanted = rows.integers(len(latents), size=batch)
        for array in arrays:
            torch.from_numpy(array[wanted])

    return {"memory-mapped": mapped, "numpy in memory": in_memory}


def main() -> None:
    options = arguments(__doc__, largest=COUNTS[-1], shape="4x8x8", batch=256, batches=20, repeats=200)
    shape = tuple(map(int, options.shape.split("x")))
    counts = [count for count in COUNTS if count <= options.largest]
    memories: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for count in counts:
            folder = Path(temporary, str(count))
            make(folder, count, shape)
            memories[str(count)] = in_new_process(folder, options.batch, options.batches)
            if count != counts[-1]:
                shutil.rmtree(folder)
        taken = side_by_side(readers(folder, options.batch), device="cpu", repeats=options.repeats)
    measured = result(options, taken, megabytes=memories)
    middle = measured["median"]
    measured["ratio"] = middle["numpy in memory"] / middle["memory-mapped"]
    rows = [
        [count, *(at["opened"][kind] - at["before"][kind] for kind in at["before"])]
        + [at["read"][kind] - at["before"][kind] for kind in at["before"]]
        for count, at in memories.items()
    ]
    columns = ["latents", "opened: own", "mapped", "batches read: own", "mapped"]
    table(f"MB of resident memory more than before, latents of {options.shape}", columns, rows)
    bytes_read = options.batch * 2 * 4 * np.prod(shape)
    rows = [[name, spent * 1e6, float(bytes_read / spent / 1e9)] for name, spent in middle.items()]
    title = f"A random batch of {options.batch} among {counts[-1]}: {measured['ratio']:.2f} times numpy's speed"
    table(title, ["reader", "microseconds", "GB/s"], rows)
    write(options.out, measured)


if __name__ == "__main__":
    main()
