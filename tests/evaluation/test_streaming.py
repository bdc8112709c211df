"""Many pictures need no more memory than few, and sums taken batch by batch are those of all at once."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.latents_memory import memory
from ldm.evaluation.fidelity import SPLITS, InceptionScore, splits
from ldm.evaluation.kept import Kept, blocks, filled

# isort: split
from torch_fidelity.metric_isc import isc_features_to_metric

ROOT = Path(__file__).resolve().parents[2]


def peak(images: Path, folder: Path, count: int) -> float:
    """MB that a process needed to measure so many pictures."""
    command = [sys.executable, str(Path(__file__).with_name("streamed.py")), images, folder, str(count)]
    place = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return float(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux alone tells anonymous memory apart")
def test_fifty_thousand_pictures_need_the_memory_of_five_hundred(scenes, tmp_path):
    """Of 50,000 the first 10,000 are kept, as ever: 61 MB of their pixels alone, 38 MB in a strip of distances."""
    few, many = peak(scenes, tmp_path / "few", 500), peak(scenes, tmp_path / "many", 50_000)
    assert many - few < 25


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux alone tells anonymous memory apart")
def test_what_is_kept_lies_in_a_file_and_is_read_as_it_was():
    """As many features of Inception as are kept: 78 MB."""
    draw, kept, before = torch.Generator().manual_seed(0), Kept(), memory()["anonymous"]
    first = torch.randn(100, 2048, generator=draw)
    kept.add(first)
    for _ in range(99):
        kept.add(torch.randn(100, 2048, generator=draw))
    assert kept.vectors.shape == (10_000, 2048)
    assert all(kept.vectors[rows].isfinite().all() for rows in blocks(10_000))
    assert memory()["anonymous"] - before < 20
    assert kept.vectors[:100].equal(first)


def test_a_disk_that_is_full_is_said_with_the_folder(monkeypatch, tmp_path):
    """A limit on the size of files, which writing meets as it meets a full disk."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        with pytest.raises(OSError, match=re.escape(str(tmp_path))):
            Kept().add(torch.zeros(100, 2048))
        with pytest.raises(OSError, match=re.escape(str(tmp_path))):
            filled(1000, 50, 0, torch.float64)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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
