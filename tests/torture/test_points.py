"""The tormentor itself: it strikes where it says."""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ldm import files
from torture.points import _around_writes, _cut, _killer, _note, _noted, _told


def forked(folder: Path, *steps: Callable[[], object]) -> int:
    """How a process ends that takes these steps in `folder`."""
    child = os.fork()
    if not child:
        os.chdir(folder)
        for step in steps:
            step()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def write(name: str = "a", size: int = 100) -> None:
    files.write_bytes(Path(name), bytes(size))


@pytest.fixture
def points(tmp_path) -> list[str]:
    notes, folder = tmp_path / "notes", tmp_path / "counted"
    folder.mkdir()
    assert forked(folder, lambda: _told(partial(_note, notes)), write) == 0
    return notes.read_text().splitlines()


def test_a_whole_write_has_these_points(points):
    into = ["os.mkdir .", "open .a.part", "fsync .a.part", "os.rename .a.part"]
    assert points == [*into, "fsync .", "os.remove .a.part"]


def test_it_is_killed_before_each_and_the_file_is_there_whole_or_not_at_all(points, tmp_path):
    for number, point in enumerate(points, 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert forked(folder, lambda: _told(_killer(point)), write) == -signal.SIGKILL  # noqa: B023 -- run at once
        assert (folder / "a").exists() == (number > 4)
    assert (folder / "a").read_bytes() == bytes(100)


def test_it_is_killed_at_the_second_time_of_a_point(points, tmp_path):
    assert forked(tmp_path, lambda: _told(_killer(points[0], 2)), write) == 0
    assert forked(tmp_path, lambda: _told(_killer(points[0], 2)), write, write) == -signal.SIGKILL


def test_the_system_ends_it_in_the_middle_of_the_write_of_one_file(tmp_path):
    cut = partial(_around_writes, partial(_cut, "b", 40))
    assert forked(tmp_path, cut, write, partial(write, "b"), partial(write, "c")) == -signal.SIGXFSZ
    half, a = sorted(tmp_path.iterdir())
    assert (a.name, a.stat().st_size) == ("a", 100)
    assert (half.name.startswith(".b."), half.stat().st_size) == (True, 40)


def test_it_learns_which_files_are_written_and_how_large_they_are(tmp_path):
    learn = partial(_around_writes, partial(_noted, tmp_path / "notes"))
    assert forked(tmp_path, learn, write, partial(write, "b", 7)) == 0
    assert (tmp_path / "notes").read_text().splitlines() == ["100 a", "7 b"]
