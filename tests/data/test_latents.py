"""Cached latents: memory-mapped rows, whichever way they were appended."""

from pathlib import Path

import pytest
import torch

from ldm.data import latents as latents_module
from ldm.data.latents import Latents, read_back, rows_in_file, write_latents
from ldm.files import write_json, write_manifest

SHAPES = {"mean": (3, 2, 2), "std": (3, 2, 2), "tokens": (5,), "low_resolution": (3, 4, 4)}
ROWS = 41


def columns(count: int) -> dict[str, torch.Tensor]:
    key = torch.Generator().manual_seed(0)
    return {
        "mean": torch.randn(count, 3, 2, 2, generator=key),
        "std": torch.rand(count, 3, 2, 2, generator=key),
        "tokens": torch.randint(0, 99, (count, 5), dtype=torch.int32, generator=key),
        "low_resolution": torch.randint(0, 256, (count, 3, 4, 4), dtype=torch.uint8, generator=key),
    }


def write(folder: Path, at_once: int) -> Path:
    values = columns(ROWS)
    size = rows_in_file(SHAPES, 1)
    for number, begin in enumerate(range(0, ROWS, size)):
        end = min(begin + size, ROWS)
        with write_latents(folder, "train", SHAPES, number) as append:
            for start in range(begin, end, at_once):
                rows = range(start, min(start + at_once, end))
                ids, draws = [f"{row // 2:03d}" for row in rows], [row % 2 for row in rows]
                append(ids, draws, [row % 7 - 1 for row in rows], {k: v[start : rows.stop] for k, v in values.items()})
    write_json(folder / "latents.json", {"counts": {"train": ROWS}, "shapes": SHAPES})
    write_manifest(folder)
    return folder


@pytest.fixture
def small_files(monkeypatch):
    """Six rows a record batch and two batches a file, so that a few rows cross both."""
    monkeypatch.setattr(latents_module, "_BATCH_BYTES", 6 * (12 * 4 * 2 + 5 * 4 + 48))
    monkeypatch.setattr(latents_module, "_FILE_BATCHES", 2)


def test_any_rows_in_any_order(tmp_path, small_files):
    read = Latents(write(tmp_path, 5), "train")
    assert len(list(tmp_path.glob("train-*.arrow"))) == 4
    assert (len(read), read.ids[:3], read.draws[:3].tolist()) == (ROWS, ["000", "000", "001"], [0, 1, 0])
    rows = torch.tensor([40, 0, 13, 13, 5, 6, 12])
    result = read.read(rows)
    for name, values in columns(ROWS).items():
        assert result[name].dtype == values.dtype
        assert torch.equal(result[name], values[rows])
    assert result["label"].tolist() == [int(row) % 7 - 1 for row in rows]
    some = read.read(rows, ["tokens"])
    assert some.keys() == {"tokens", "label"}
    assert torch.equal(some["tokens"], result["tokens"])
    assert read.read(torch.tensor([], dtype=torch.int64))["mean"].shape == (0, 3, 2, 2)
    with pytest.raises(IndexError):
        read.read(torch.tensor([ROWS]))


def test_how_rows_are_appended_changes_no_byte(tmp_path, small_files):
    manifests = {(write(tmp_path / str(n), n) / "manifest.json").read_text() for n in (1, 4, 6, 12, 13, ROWS)}
    assert len(manifests) == 1


@pytest.mark.parametrize(("batch", "rows"), [(1, 12), (4, 12), (5, 10), (12, 12), (13, 13)])
def test_a_file_holds_whole_batches_and_at_least_one(small_files, batch, rows):
    assert rows_in_file(SHAPES, batch) == rows


@pytest.mark.parametrize("rows", [1, 5, 12, 100])
def test_rows_are_read_back_from_files_without_their_description(tmp_path, small_files, rows):
    files = sorted(write(tmp_path, 5).glob("*.arrow"))
    parts = list(read_back(files, {name: SHAPES[name] for name in ("std", "tokens")}, rows))
    assert [len(part["std"]) for part in parts[:-1]] == [rows] * (len(parts) - 1)
    for name in ("std", "tokens"):
        assert torch.equal(torch.cat([part[name] for part in parts]), columns(ROWS)[name])
    assert list(read_back([], {}, 1)) == []


def test_what_was_read_can_be_changed_without_changing_the_file(tmp_path):
    read = Latents(write(tmp_path, 8), "train")
    read.read(torch.tensor([3]))["mean"].zero_()
    assert torch.equal(read.read(torch.tensor([3]))["mean"], columns(ROWS)["mean"][3:4])


def test_rows_out_of_order_and_failures_leave_no_file(tmp_path):
    values = columns(20)

    def fail():
        with write_latents(tmp_path, "train", SHAPES) as append:
            append([f"{n:02d}" for n in range(20)], [0] * 20, [-1] * 20, values)
            append(["00"], [0], [-1], {k: v[:1] for k, v in values.items()})

    with pytest.raises(AssertionError, match="in order of"):
        fail()
    assert not [*tmp_path.iterdir()]


def test_a_missing_split_or_file_is_said(tmp_path, small_files):
    write(tmp_path, 8)
    with pytest.raises(ValueError, match=r"no split 'test' \(there is: train\)"):
        Latents(tmp_path, "test")
    (tmp_path / "train-00003.arrow").unlink()
    with pytest.raises(ValueError, match=r"train has 36 rows, latents\.json says 41; cache again"):
        Latents(tmp_path, "train")


def test_ids_captions_and_draws_are_read_when_asked_for(tmp_path, small_files):
    read = Latents(write(tmp_path, 5), "train")
    assert [*read.ids] == [f"{row // 2:03d}" for row in range(ROWS)] == read.ids[:]
    assert (read.ids[-1], len(read.ids), read.caption(40)) == ("020", ROWS, None)
    assert read.draws.tolist() == [row % 2 for row in range(ROWS)]
    with pytest.raises(IndexError):
        read.ids[ROWS]
