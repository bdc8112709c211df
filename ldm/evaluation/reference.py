"""The reference stage: feature statistics of real pictures."""

from collections.abc import Iterator
from pathlib import Path

import torch

from ldm.config import Run
from ldm.data.shards import Images
from ldm.evaluation.config import Reference
from ldm.evaluation.features import extractor
from ldm.evaluation.statistics import RealStatistics, Statistics, padded
from ldm.files import fresh_folder, identity, write_manifest
from ldm.progress import Progress
from ldm.training.exact import setup

FEWEST = 8
"""Pictures a reference needs: a floor between halves, neighbours within them."""


def reference(config: Reference, run: Run, images: Path, features: Path, out: Path) -> Iterator[Progress]:
    """Measure `config.split` of the prepared pictures in `images`, in order of id, and write to the folder `out`:

    statistics.safetensors (mean, covariance, scale, the first features themselves) and reference.json (features,
    weights hash, counts, floor). Pictures are read batch by batch; only features stay in memory, the first so many.
    """
    device = setup(run)
    real = Images(images, config.split)
    if len(real) < FEWEST:
        raise ValueError(f"{images}: split {config.split} has {len(real)} pictures; a reference needs {FEWEST}")
    extract = extractor(features, device)
    every, halves = Statistics(), (Statistics(keep=0), Statistics(keep=0))
    for start in range(0, len(real), config.batch):
        indices = torch.arange(start, min(start + config.batch, len(real)))
        found, _ = extract(padded(real.batch(indices), config.batch).to(device))
        found = found[: len(indices)]
        every.add(found)
        for parity, half in enumerate(halves):
            half.add(found[indices % 2 == parity])
        yield Progress(done=start + len(indices), total=len(real), unit="pictures")
    folder = fresh_folder(out)
    about = {"split": config.split, "batch": config.batch, "images": identity(images)}
    RealStatistics.of(every, halves, extract).save(folder, about)
    write_manifest(folder)
