"""The reference stage: feature statistics of real pictures."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ldm.config import Run
from ldm.data.batches import mixed
from ldm.data.draws import central
from ldm.data.shards import Images
from ldm.evaluation.config import Reference
from ldm.evaluation.features import extractor
from ldm.evaluation.shared import Measured, shared
from ldm.evaluation.statistics import RealStatistics, Statistics, padded, rounded
from ldm.files import fresh_folder, identity, write_manifest
from ldm.progress import Progress
from ldm.training.exact import setup
from ldm.training.several import Processes

FEWEST = 8
"""Pictures a reference needs: a floor between halves, neighbours within them."""


OPPOSITE = {"train": ("test", "validation", "held_out")}
"""The splits, first come first, that a split is compared with under `train`; any other split with `train`."""


def reference(config: Reference, run: Run, images: Path, features: Path, out: Path) -> Iterator[Progress]:
    """Measure `config.split` of the prepared pictures in `images`, in order of id, and write to the folder `out`:

    statistics.safetensors (mean, covariance, scale, the first features themselves, and the first of the split that it
    is compared with under `train`) and reference.json (features, weights hash, counts, floor, train against held-out
    where the data has both). Pictures are read batch by batch; only features stay in memory, the first so many.
    Processes share the batches, and the first writes.
    """
    device = setup(run)
    processes = Processes(device)
    processes.join()
    real = Images(images, config.split)
    if len(real) < FEWEST:
        raise ValueError(f"{images}: split {config.split} has {len(real)} pictures; a reference needs {FEWEST}")
    opposite = _opposite(images, config.split, real)
    equal = min(len(real), len(opposite[1])) if opposite else 0
    whole, side = real.info["size"], config.crop or real.info["size"]
    if side > whole:
        raise ValueError(f"{images}: pictures of {whole} pixels have no crop of {side}; lower the reference's crop")
    view = central(whole, side)
    extract = extractor(features, device)

    def measure(images: Images, chosen: Int[Tensor, " b"]) -> Measured:
        found, _ = extract(padded(view.of(images.batch(chosen)), config.batch).to(device))
        return {"features": found[: len(chosen)]}

    every, halves = Statistics(), (Statistics(keep=0), Statistics(keep=0))
    part, held, total = Statistics(), Statistics(), len(real) + equal
    compared = torch.zeros(len(real), dtype=torch.bool)
    if equal:
        compared[mixed(equal, len(real))] = True
    for indices, measured in shared(torch.arange(len(real)).split(config.batch), partial(measure, real), processes):
        found = measured["features"]
        every.add(found)
        part.add(found[compared[indices]])
        for parity, half in enumerate(halves):
            half.add(found[indices % 2 == parity])
        yield Progress(done=every.count, total=total, unit="pictures")
    if opposite:
        chosen = mixed(equal, len(opposite[1])).sort().values
        for _, measured in shared(chosen.split(config.batch), partial(measure, opposite[1]), processes):
            held.add(measured["features"])
            yield Progress(done=len(real) + held.count, total=total, unit="pictures")

    processes.leave()
    if not processes.first:
        return
    statistics = RealStatistics.of(every, halves, extract, held if opposite else None)
    about: dict[str, Any] = {"split": config.split, "size": side, "batch": config.batch, "images": identity(images)}
    if opposite:
        distances = {
            "frechet_distance": rounded(statistics.between(part, held)),
            "kernel_distance": rounded(statistics.kernel_distance(part.kept, held.kept)[0]),
        }
        about["train"] = distances | {"split": opposite[0], "count": equal}
    folder = fresh_folder(out)
    statistics.save(folder, about)
    write_manifest(folder)


def _opposite(folder: Path, split: str, real: Images) -> tuple[str, Images] | None:
    """The first split to compare `split` with that has pictures enough, and its pictures."""
    counts = real.info["splits"]
    for other in OPPOSITE.get(split, ("train",)):
        if counts.get(other, 0) >= FEWEST:
            return other, Images(folder, other)
    return None
