"""Many pictures need no more memory than few, but for the features that are kept."""

import subprocess
import sys

import pytest
import torch

from ldm.evaluation.fidelity import SPLITS, InceptionScore, splits

# isort: split
from torch_fidelity.metric_isc import isc_features_to_metric

PEAK = """
import resource, sys, torch
from pathlib import Path
from ldm.evaluation.features import extractor
from ldm.evaluation.fidelity import Fidelity, InceptionScore
from ldm.evaluation.statistics import RealStatistics, Statistics
from ldm.files import write_manifest

torch.set_num_threads(1)
folder, count = Path(sys.argv[1]), int(sys.argv[2])
extract = extractor(Path("none"), torch.device("cpu"))
generator = torch.Generator().manual_seed(0)
pictures = lambda: torch.randint(0, 256, (100, 3, 8, 8), dtype=torch.uint8, generator=generator)
every, halves = Statistics(), (Statistics(keep=0), Statistics(keep=0))
for _ in range(2):
    found, _ = extract(pictures())
    every.add(found)
    halves[0].add(found[::2])
    halves[1].add(found[1::2])
(folder / "r").mkdir()
RealStatistics.of(every, halves, extract).save(folder / "r", {"split": "test"})
write_manifest(folder / "r")
figure, score = Fidelity(folder / "r", extract, torch.device("cpu")), InceptionScore()
figure._statistics = Statistics(keep=1000)  # of 10,000: what costs seconds are distances between those kept
for _ in range(count // 100):
    rows = [{}] * 100
    figure.add(rows, figure.measure(pictures(), rows))
    score.add(torch.randn(100, 1008, generator=generator))
figure.intervals(), score.scores()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(folder, count: int) -> float:
    """MB that a process needed to measure so many pictures."""
    folder.mkdir()
    done = subprocess.run([sys.executable, "-c", PEAK, folder, str(count)], capture_output=True, text=True, check=True)
    return int(done.stdout) / 1024


def test_many_pictures_need_the_memory_of_few_but_for_kept_features(tmp_path):
    """Logits of 20,000 pictures alone would be 81 MB."""
    few, many = peak(tmp_path / "few", 1000), peak(tmp_path / "many", 20_000)
    assert many - few < 30


def test_the_parts_of_the_inception_score_are_equal_random_and_the_same_however_pictures_come():
    parts = splits(0, 1000)
    assert parts.bincount(minlength=SPLITS).tolist() == [100] * SPLITS
    assert torch.cat([splits(0, 7), splits(7, 13), splits(13, 1000)]).equal(parts)
    assert not parts[:100:10].equal(parts[:1])  # a class that comes every ten pictures is not one part


@pytest.mark.parametrize(("count", "batch"), [(9, 9), (400, 64), (1003, 100)])
def test_the_streamed_inception_score_is_torch_fidelitys(count, batch):
    logits = 3 * torch.randn(count, 1008, generator=torch.Generator().manual_seed(0))
    score = InceptionScore()
    for part in logits.split(batch):
        score.add(part)
    member = splits(0, count)
    theirs = [
        isc_features_to_metric(logits[member == part], splits=1, shuffle=False)["inception_score_mean"]
        for part in range(SPLITS)
        if (member == part).any()
    ]
    assert score.scores().tolist() == pytest.approx(theirs, rel=1e-9)
    if count % SPLITS == 0:
        order = torch.cat([logits[member == part] for part in range(SPLITS)])
        whole = isc_features_to_metric(order, splits=SPLITS, shuffle=False)
        assert score.scores().mean().item() == pytest.approx(whole["inception_score_mean"], rel=1e-6)
        assert score.scores().std(correction=0).item() == pytest.approx(whole["inception_score_std"], rel=1e-6)
