"""The reference stage: feature statistics of real pictures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ldm.config import Run
from ldm.data.batches import mixed
from ldm.data.draws import View, central
from ldm.data.shards import Images
from ldm.evaluation.config import Reference
from ldm.evaluation.features import Extractor, extractor
from ldm.evaluation.statistics import RealStatistics, Statistics, padded, rounded
from ldm.files import fresh_folder, identity, write_manifest
from ldm.progress import Progress
from ldm.training.exact import setup

FEWEST = 8
"""Pictures a reference needs: a floor between halves, neighbours within them."""


OPPOSITE = {"train": ("test", "validation", "held_out")}
"""The splits, first come first, that a split is compared with under `train`; any other split with `train`."""


def reference(config: Reference, run: Run, images: Path, features: Path, out: Path) -> Iterator[Progress]:
    """Measure `config.split` of the prepared pictures in `images`, in order of id, and write to the folder `out`:

    statistics.safetensors (mean, covariance, scale, the first features themselves) and reference.json (features,
    weights hash, counts, floor, train against held-out where the data has both). Pictures are read batch by batch;
    only features stay in memory, the first so many.
    """
    device = setup(run)
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
    every, halves = Statistics(), (Statistics(keep=0), Statistics(keep=0))
    part, total = Statistics(), len(real) + equal
    compared = torch.zeros(len(real), dtype=torch.bool)
    if equal:
        compared[mixed(equal, len(real))] = True
    for indices, found in _features(real, torch.arange(len(real)), config.batch, view, extract, device):
        every.add(found)
        part.add(found[compared[indices]])
        for parity, half in enumerate(halves):
            half.add(found[indices % 2 == parity])
        yield Progress(done=int(indices[-1]) + 1, total=total, unit="pictures")
    statistics = RealStatistics.of(every, halves, extract)
    about: dict[str, Any] = {"split": config.split, "size": side, "batch": config.batch, "images": identity(images)}
    if opposite:
        split, others = opposite
        held = Statistics()
        for _, found in _features(others, mixed(equal, len(others)).sort().values, config.batch, view, extract, device):
            held.add(found)
            yield Progress(done=len(real) + held.count, total=total, unit="pictures")
        distances = {
            "frechet_distance": rounded(statistics.between(part, held)),
            "kernel_distance": rounded(statistics.kernel_distance(part.kept, held.kept)[0]),
        }
        about["train"] = distances | {"split": split, "count": equal}
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


def _features(
    images: Images, indices: Int[Tensor, " n"], batch: int, view: View, extract: Extractor, device: torch.device
) -> Iterator[tuple[Int[Tensor, " b"], Float[Tensor, "b d"]]]:
    """Positions, and features of `view` of the pictures, a batch at a time."""
    for chosen in indices.split(batch):
        found, _ = extract(padded(view.of(images.batch(chosen)), batch).to(device))
        yield chosen, found[: len(chosen)]
