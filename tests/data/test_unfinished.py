"""What a killed run left is gone on from only where it is whole."""

from pathlib import Path

import pytest

from ldm.data.unfinished import Unfinished
from ldm.files import sha256

NAMES = [f"{name}.arrow" for name in ("test-00000", "train-00000", "train-00001", "train-00002")]


@pytest.fixture
def left(tmp_path) -> Unfinished:
    """Three noted files of one split and one of another."""
    unfinished = Unfinished(tmp_path / "state")
    for name in NAMES:
        (unfinished.folder / name).write_text(name)
        unfinished.note(name)
    return unfinished


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whole_files_are_found_again(left, tmp_path):
    again = Unfinished(tmp_path / "state")
    assert all(again.has(name) for name in NAMES)
    assert not again.has("validation-00000.arrow")


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing", "note missing", "note cut"])
def test_a_damaged_file_alone_is_removed(left, damage, tmp_path):
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
    assert [name for name in NAMES if left.has(name)] == [name for name in NAMES if name != path.name]
    assert names(left.folder) == [name for name in NAMES if name != path.name]


def test_what_others_were_writing_goes_when_they_are_done(left):
    part = left.folder / ".train-00003.arrow.77.part"
    part.write_text("half")
    assert left.has("train-00000.arrow")
    assert part.exists()
    left.clear_halves()
    assert names(left.folder) == NAMES


def test_the_end_replaces_what_was_there(left, tmp_path):
    out = tmp_path / "latents" / "things"
    out.mkdir(parents=True)
    (out / "train-00009.arrow").write_text("old")
    hashes = left.hashes()
    left.finish(out)
    assert hashes == {path.name: sha256(path) for path in out.iterdir()}
    assert len(hashes) == 4
