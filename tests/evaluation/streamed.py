"""A process that measures so many made samples against as many made real pictures, and prints its own memory: the most
MB that it held of anonymous pages, which no file stands behind and the kernel cannot drop."""

import sys
import threading
import time
from pathlib import Path

import torch

from benchmarks.latents_memory import memory
from ldm.evaluation.features import Extractor, RandomConvolutions
from ldm.evaluation.fidelity import Fidelity, InceptionScore
from ldm.evaluation.neighbours import MOST, Neighbours
from ldm.evaluation.paired import Holes
from ldm.evaluation.statistics import RealStatistics, Statistics
from ldm.files import write_manifest
from ldm.training.several import Processes

BATCH = 100
CPU = torch.device("cpu")


class Few(RandomConvolutions):
    """Of 8 numbers, so that distances among 10,000 pictures take a second."""

    WIDTHS = (1,)


class Peak(threading.Thread):
    """The most anonymous memory seen, looked at every two milliseconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen = 0.0

    def run(self) -> None:
        while True:
            self.seen = max(self.seen, memory()["anonymous"])
            time.sleep(0.002)


def measure(images: Path, folder: Path, count: int) -> None:
    """All that the stages reference and evaluate keep of pictures, from made features: nothing is decoded."""
    draw = torch.Generator().manual_seed(0)
    extract = Extractor(
        name="few", network=Few("random_conv", ["features"]), standardise=True, about={"features": "few"}
    )
    every, halves, opposite = Statistics(), (Statistics(keep=0), Statistics(keep=0)), Statistics()
    for _ in range(count // BATCH):
        features = torch.randn(BATCH, 8, generator=draw)
        every.add(features)
        opposite.add(features)
        for parity, half in enumerate(halves):
            half.add(features[parity::2])
    folder.mkdir()
    real = RealStatistics.of(every, halves, extract, opposite)
    real.save(folder, {"split": "test", "train": {"frechet_distance": 0.1, "kernel_distance": 0.1}})
    write_manifest(folder)

    fidelity, score = Fidelity(folder, extract, CPU), InceptionScore()
    holes, neighbours = Holes(folder, extract, CPU), Neighbours(images, extract, CPU, BATCH)
    for start in range(0, count, BATCH):
        rows = [{"id": f"{i:06}", "seed": i} for i in range(start, start + BATCH)]
        features = 1.2 * torch.randn(BATCH, 8, generator=draw)
        fidelity.add(rows, {"features": features})
        score.add(torch.randn(BATCH, 1008, generator=draw))
        bins = torch.full((BATCH,), start // BATCH % 5)
        values = dict.fromkeys(("psnr", "ssim", "lpips", "psnr_hole"), features[:, 0].double())
        ids = [row["id"] for row in rows]
        holes.add(ids, values, {"hole_bins": bins, "hole_made": features, "hole_originals": 0.9 * features})
        if start < MOST:
            pixels = 255 * torch.rand(BATCH, 2, 3 * 16 * 16, generator=draw)
            pairs = {"features": features[:, None].expand(-1, 2, -1), "pixels": pixels}
            neighbours.add(rows, {"size": torch.tensor([24, 24]), **pairs})
    neighbours.complete(Processes(CPU))
    for figure in (fidelity, holes, neighbours):
        figure.figures(), figure.intervals(), figure.about()
    score.scores()


if __name__ == "__main__":
    torch.set_num_threads(1)
    peak = Peak()
    peak.start()
    measure(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    print(peak.seen)
