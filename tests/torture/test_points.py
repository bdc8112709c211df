"""The tormentor itself: it strikes where it says, and counts what differs as a failure."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ldm.files import write_bytes
from torture.bench import Fault
from torture.points import _killer, _no_file_above, _note, _told


def forked(folder: Path, *steps: Callable[[], object]) -> int:
    """How a process ends that takes these steps in `folder`."""
    child = os.fork()
    if not child:
        os.chdir(folder)
        for step in steps:
            step()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def write() -> None:
    write_bytes(Path("a"), bytes(100))


@pytest.fixture
def points(tmp_path) -> list[str]:
    notes, folder = tmp_path / "notes", tmp_path / "counted"
    folder.mkdir()
    assert forked(folder, lambda: _told(lambda point: _note(notes, point)), write) == 0
    return [line.rpartition(".a.")[0] or line for line in notes.read_text().splitlines()]


def test_a_whole_write_has_these_points(points):
    assert points == ["open ", "fsync", "os.rename ", "fsync", "os.remove "]


def test_it_is_killed_before_each_and_the_file_is_there_whole_or_not_at_all(points, tmp_path):
    for number in range(1, len(points) + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert forked(folder, lambda: _told(_killer(number)), write) == -signal.SIGKILL  # noqa: B023 -- run at once
        assert (folder / "a").exists() == (number > 3)
    assert (folder / "a").read_bytes() == bytes(100)


def test_the_system_ends_it_in_the_middle_of_a_write(tmp_path):
    assert forked(tmp_path, lambda: _no_file_above(40), write) == -signal.SIGXFSZ
    (half,) = tmp_path.iterdir()
    assert (half.name.endswith(".part"), half.stat().st_size) == (True, 40)


def test_a_fault_passed_where_all_survived_and_nothing_differs():
    fault = Fault(name="a fault")
    fault.add(True, [], "what was done")
    assert (fault.passed, fault.notes) == (True, [])
    fault.add(True, ["models/a"], "what was done")
    assert (fault.passed, fault.tried, fault.survived, fault.differing) == (False, 2, 2, 1)
    assert fault.notes == ["differ: models/a", "what was done"]
    fault = Fault(name="another")
    fault.add(False, [], "a traceback")
    assert (fault.passed, fault.notes) == (False, ["a traceback"])
