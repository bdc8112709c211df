"""Benchmarks that need no GPU and no server run with tiny settings, and write what docs/performance.md shows."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from ldm.files import read_json

Run = Callable[..., Any]


@pytest.fixture
def run(monkeypatch, tmp_path) -> Run:
    """The script's main with these options; what it wrote."""

    def run(script: str, *options: str) -> Any:
        out = tmp_path / "result.json"
        monkeypatch.setattr(sys, "argv", [f"{script}.py", "--device", "cpu", "--out", str(out), *options])
        import_module(f"benchmarks.{script}").main()
        return read_json(out)

    return run


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc, which Linux has")
def test_latents_memory(run):
    found = run("latents_memory", "--largest", "10000", "--shape", "3x2x2", "--batch", "16", "--repeats", "3")
    few, many = (found["megabytes"][count] for count in ("1000", "10000"))
    assert all(at["before"]["anonymous"] <= at["opened"]["anonymous"] for at in (few, many))
    assert found["ratio"] == found["median"]["numpy in memory"] / found["median"]["memory-mapped"]


def test_up_to_date(run):
    pytest.importorskip("dvc", reason="DVC is not installed")
    found = run("up_to_date", "--preset", "smoke", "--samples", "5000", "--repeats", "1")
    assert found["stages"] == 20
    assert sum(found["shares"].values()) == pytest.approx(1)


def test_the_unets_that_are_compared_predict_the_same():
    pytest.importorskip("diffusers", reason="diffusers (the extra `test`) is not installed")
    from benchmarks.unet_cpu import ours_and_theirs

    ours, theirs = ours_and_theirs(128, 8)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert all(p.any() for p in ours.parameters())
