"""The benchmarks of caching measure the real things, here small ones."""

import io

import pytest
import torch
from PIL import Image

from ldm.files import read_json

pytest.importorskip("diffusers", reason="diffusers (the extra `test`) is not installed")
from benchmarks import caching, from_cache

PARTS = ("decoded", "sent", "encoded", "measured", "written")
SMALL = ["--device", "cpu", "--size", "16", "--batch", "2", "--rounds", "1", "--small"]


@pytest.fixture(autouse=True)
def _threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_pictures_are_as_large_as_photographs_and_differ():
    first, second = caching.picture(256, 0), caching.picture(256, 1)
    assert first != second
    assert 80_000 < len(first) < 160_000, "PNG of 256 x 256 photographs are of about 110 kB"
    assert Image.open(io.BytesIO(first)).size == (256, 256)


def test_caching_beside_the_peer(tmp_path, capsys):
    out = tmp_path / "caching.json"
    written = caching.main([*SMALL, "--pictures", "5", "--peer", "eager", "--out", str(out)])
    assert read_json(out) == written
    for kind in caching.KINDS:
        measured = written[kind]
        rates = measured["pictures_per_second"]
        assert measured["ratio"] == pytest.approx(rates["ours"] / rates["peer"])
        assert measured["seconds_alone"].keys() == {f"{part} alone" for part in PARTS}
        assert all(taken > 0 for taken in measured["seconds_alone"].values())
    printed = capsys.readouterr().out
    assert all(f"Caching {kind} at 16, batch 2" in printed for kind in caching.KINDS)


def test_training_from_the_cache_beside_a_fixed_batch_and_beside_encoding(tmp_path, capsys):
    out = tmp_path / "from_cache.json"
    measured = from_cache.main([*SMALL, "--latents", "9", "--steps", "2", "--out", str(out)])
    assert read_json(out) == measured
    assert measured["median"].keys() == {"cached", "fixed", "encoded"}
    assert measured["factor"] == pytest.approx(measured["median"]["encoded"] / measured["median"]["cached"])
    assert "cached latents train" in capsys.readouterr().out
