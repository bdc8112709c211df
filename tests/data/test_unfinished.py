"""What a killed run left is gone on from only where it is whole."""

from pathlib import Path

import pytest

from ldm.data.unfinished import Unfinished
from ldm.files import sha256


@pytest.fixture
def left(tmp_path) -> Unfinished:
    """Three noted files of one split and one of another."""
    unfinished = Unfinished(tmp_path / "state")
    for name in ("train-00000", "train-00001", "train-00002", "test-00000"):
        path = unfinished.folder / f"{name}.arrow"
        path.write_text(name)
        unfinished.note(path)
    return unfinished


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_whole_files_are_found_in_order(left, tmp_path):
    assert names(Unfinished(tmp_path / "state").files("train")) == [f"train-0000{n}.arrow" for n in range(3)]
    assert left.files("validation") == []


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing", "note missing", "note cut"])
def test_a_damaged_file_and_those_after_it_are_removed(left, damage, tmp_path):
    path, note = left.folder / "train-00001.arrow", tmp_path / "state" / "notes" / "train-00001.arrow.json"
    match damage:
        case "flipped":
            path.write_text("train-00003")
        case "cut":
            path.write_text("train")
        case "missing":
            path.unlink()
        case "note missing":
            note.unlink()
        case "note cut":
            note.write_text(note.read_text()[:5])
    assert names(left.files("train")) == ["train-00000.arrow"]
    assert names(sorted(left.folder.iterdir())) == ["test-00000.arrow", "train-00000.arrow"]


def test_what_was_being_written_goes(left, tmp_path):
    part = left.folder / ".train-00003.arrow.77.part"
    part.write_text("half")
    Unfinished(tmp_path / "state")
    assert not part.exists()


def test_the_end_replaces_what_was_there(left, tmp_path):
    out = tmp_path / "latents" / "things"
    out.mkdir(parents=True)
    (out / "train-00009.arrow").write_text("old")
    hashes = left.hashes()
    left.finish(out)
    assert hashes == {path.name: sha256(path) for path in out.iterdir()}
    assert len(hashes) == 4
