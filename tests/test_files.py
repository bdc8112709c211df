"""A file appears whole or not at all, and a folder is known by one hash."""

import signal
import subprocess
import sys
import time

import pytest

from ldm.files import identity, read_json, whole, write_json, write_manifest


def test_a_failed_write_leaves_what_was_there(tmp_path):
    write_json(tmp_path / "a.json", {"kept": 1})

    def fail_half_way() -> None:
        with whole(tmp_path / "a.json") as beside:
            beside.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_half_way()
    assert read_json(tmp_path / "a.json") == {"kept": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_killed_in_the_middle_of_writing_nothing_has_the_name(tmp_path):
    program = """
import sys, time
from pathlib import Path
from ldm.files import whole
with whole(Path(sys.argv[1]) / "a.bin") as beside:
    beside.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "a.bin").exists()


def test_equal_values_are_equal_bytes(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, "ü"]})
    write_json(tmp_path / "b.json", {"a": [1.5, "ü"], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize(("damage", "says"), [("flipped", "damaged, its hash is not that in"), ("gone", "missing")])
def test_a_folder_whose_description_is_not_the_listed_one_has_no_identity(tmp_path, damage, says):
    """A digit that flipped would be another result, and nobody would know."""
    write_json(tmp_path / "latents.json", {"channel_std": [1.5]})
    write_manifest(tmp_path)
    if damage == "flipped":
        (tmp_path / "latents.json").write_text((tmp_path / "latents.json").read_text().replace("1.5", "1.7"))
    else:
        (tmp_path / "latents.json").unlink()
    with pytest.raises(ValueError, match=rf"latents\.json: {says}"):
        identity(tmp_path)


def test_the_identity_of_a_folder_changes_with_any_byte_and_with_nothing_else(tmp_path):
    hashes = []
    for name, content in (("one", b"x"), ("two", b"x"), ("three", b"y")):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "file").write_bytes(content)
        time.sleep(0.01)
        write_manifest(tmp_path / name)
        hashes.append(identity(tmp_path / name))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_folder_without_manifest_is_incomplete(tmp_path):
    with pytest.raises(ValueError, match="incomplete or missing"):
        identity(tmp_path)
