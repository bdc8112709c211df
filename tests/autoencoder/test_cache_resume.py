"""Caching that is stopped, killed or shared by several processes makes each file once, and ends in the same bytes."""

import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ldm.autoencoder.cache import cache_latents, planned
from ldm.autoencoder.config import Latents as Section
from ldm.autoencoder.model import build
from ldm.config import check
from ldm.data import latents as latents_module
from ldm.files import MANIFEST, write_json, write_manifest
from ldm.progress import Progress
from tests.autoencoder.conftest import RUN

ROW_BYTES = {"kl": 2 * 3 * 8 * 8 * 4, "vq": 3 * 8 * 8 * 4, "identity": 3 * 16 * 16}
ASKED = {"dataset": "d", "autoencoder": "a", "vocabulary": "none", "clip": "none", "draws": 2, "flip": True}
ROWS = 40 * 2 + 12


@pytest.fixture
def small_files(monkeypatch):
    """Files of twelve rows: fifteen would fit, and batches of four fill three quarters of that."""
    monkeypatch.setattr(latents_module, "_FILE_BATCHES", 3)
    return lambda kind: monkeypatch.setattr(latents_module, "_BATCH_BYTES", 5 * ROW_BYTES[kind])


@pytest.fixture
def coder(tmp_path, row) -> Callable[[str], Path]:
    def made(kind: str) -> Path:
        folder = tmp_path / kind
        folder.mkdir()
        config: Any = {"kind": "identity", "dataset": "d", "init_from": "none", "perceptual": "none"}
        if kind != "identity":
            section = row(kind).root
            torch.manual_seed(0)
            save_file(build(section).state_dict(), folder / "model.safetensors")
            config = section.model_dump()
        write_json(folder / "config.json", config)
        write_manifest(folder)
        return folder

    return made


def asked() -> Section:
    return check(ASKED | {"batch": 4, "seed": 5}, Section, "latents.soft")


def caching(pictures: Path, coder: Path, out: Path, resume: Path) -> Iterator[Progress]:
    return cache_latents(asked(), RUN, pictures, coder, Path("none"), Path("none"), out, resume)


@pytest.mark.parametrize("kind", ["kl", "vq", "identity"])
def test_stopped_again_and_again_it_ends_in_the_same_bytes(pictures, coder, small_files, tmp_path, kind, monkeypatch):
    small_files(kind)
    monkeypatch.setenv("LDM_WORKERS", "0")  # nothing is written ahead of the record at which it stops
    stage, out, resume = coder(kind), tmp_path / "out", tmp_path / "state"
    *_, last = caching(pictures, stage, tmp_path / "whole", tmp_path / "whole-state")
    assert (last.done, last.total) == (ROWS, ROWS)
    began = []
    while not out.exists():
        records = caching(pictures, stage, out, resume)
        for place, record in enumerate(records):
            began += [record.done] if place == 0 else []
            if place == 5:  # about a file further
                records.close()
    assert len(began) > 3
    assert began[0] == 0
    assert all(before < after for before, after in itertools.pairwise(began)), "it did not begin anew"
    assert (out / MANIFEST).read_bytes() == (tmp_path / "whole" / MANIFEST).read_bytes()


SCRIPT = """
import sys, time
from pathlib import Path
from ldm.autoencoder.cache import cache_latents
from ldm.autoencoder.config import Latents
from ldm.config import Run
from ldm.data import latents

config, run, batch_bytes, stop, *folders = sys.argv[1:]
latents._FILE_BATCHES, latents._BATCH_BYTES = 3, int(batch_bytes)
sections = Latents.model_validate_json(config), Run.model_validate_json(run)
for record in cache_latents(*sections, *map(Path, folders)):
    print(record.done, flush=True)
    if record.done > int(stop):
        time.sleep(600)
"""


def test_killed_by_the_system_it_goes_on_from_the_last_whole_file(pictures, coder, small_files, tmp_path):
    small_files("vq")
    stage = coder("vq")
    given = [asked().model_dump_json(), RUN.model_dump_json(), 5 * ROW_BYTES["vq"]]

    def started(out: str, stop: int) -> subprocess.Popen[str]:
        # All runs are processes alike: a library chooses its code by the environment in which it is loaded.
        folders = [pictures, stage, "none", "none", tmp_path / out, tmp_path / f"state-{out}"]
        command = [sys.executable, "-c", SCRIPT, *map(str, given), str(stop), *map(str, folders)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def told(process: subprocess.Popen[str]) -> list[int]:
        said, _ = process.communicate()
        assert process.returncode == 0
        return [int(line) for line in said.split()]

    told(started("whole", stop=10**6))
    with started("out", stop=40) as process:  # two files and a part of the third
        assert process.stdout is not None
        done = next(int(line) for line in process.stdout if int(line) > 40)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    first, *_ = told(started("out", stop=10**6))
    assert first >= 24, f"killed at {done}, it began anew"
    assert (tmp_path / "out" / MANIFEST).read_bytes() == (tmp_path / "whole" / MANIFEST).read_bytes()


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_files_made_elsewhere_in_any_order_are_put_together(pictures, coder, small_files, tmp_path, kind):
    small_files(kind)
    stage, out, resume = coder(kind), tmp_path / "out", tmp_path / "state"
    [*_] = caching(pictures, stage, tmp_path / "whole", tmp_path / "whole-state")
    work = planned(asked(), RUN, pictures, stage, Path("none"), Path("none"), resume)
    assert [(file.name, len(file.rows)) for file in work.files[5:8]] == [
        ("train-00005.arrow", 12), ("train-00006.arrow", 8), ("validation-00000.arrow", 12)
    ]  # fmt: skip
    for start in reversed(work.starts()):
        work.batch(start)
    first, *rest = caching(pictures, stage, out, resume)
    assert (first.done, len(rest)) == (ROWS, 1)
    assert (out / MANIFEST).read_bytes() == (tmp_path / "whole" / MANIFEST).read_bytes()


def test_a_damaged_file_alone_is_written_again(pictures, coder, small_files, tmp_path):
    small_files("kl")
    stage, out, resume = coder("kl"), tmp_path / "out", tmp_path / "state"
    [*_] = caching(pictures, stage, tmp_path / "whole", tmp_path / "whole-state")
    records = caching(pictures, stage, out, resume)
    next(record for record in records if record.done > 40)
    records.close()
    path = resume / "latents" / "train-00001.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    first, *_ = caching(pictures, stage, out, resume)
    assert first.done == 24
    assert (out / MANIFEST).read_bytes() == (tmp_path / "whole" / MANIFEST).read_bytes()
