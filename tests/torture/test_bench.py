"""What counts as survived, and what the table says of it."""

import sys
from io import StringIO

import pytest
from rich.console import Console

from torture import __main__ as torture
from torture import gpu
from torture.bench import Bench, Fault, clear, differing
from torture.project import Project
from torture.surroundings import utf8_locale


def test_a_fault_passed_where_all_survived_and_nothing_differs():
    fault = Fault(name="a fault")
    assert fault.verdict == "FAILED"  # nothing was tried
    fault.add(True, {}, "what was done")
    assert (fault.verdict, fault.notes) == ("passed", [])
    fault.add(True, {"models/a": 3}, "what was done")
    assert (fault.verdict, fault.tried, fault.survived, fault.differing) == ("FAILED", 2, 2, 3)
    assert fault.notes == ["differ: models/a", "what was done"]
    fault = Fault(name="another")
    fault.add(False, {}, "a traceback")
    assert (fault.verdict, fault.notes) == ("FAILED", ["a traceback"])
    assert Fault(name="a third", left_out="no disk").verdict == "left out: no disk"


def test_bytes_that_differ_are_counted_and_a_file_that_is_missing_too():
    before = {"same": b"abc", "flipped": b"abcd", "cut": b"abcdef", "gone": b"abc", "empty": b""}
    after = {"same": b"abc", "flipped": b"aBCd", "cut": b"abc", "new": b"x"}
    assert differing(before, after) == {"flipped": 2, "cut": 3, "gone": 3, "empty": 1, "new": 1}


def test_what_a_stage_wrote_is_cleared_wherever_one_stands(tmp_path):
    project = Project(tmp_path / "project", tmp_path / "home")
    for name in ("data/prepared/mine/a", "data/prepared/other/a", "key.json", ".resume/prepare/mine/b"):
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / name).touch()
    clear(project, ["data/prepared/mine", "key.json", "models/not/there"])
    assert [path.name for path in project.folder.rglob("*") if path.is_file()] == ["a"]
    assert (project.folder / "data/prepared/other/a").exists()


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(Project(tmp_path / "reference", tmp_path / "home"), kills=1, every_point=False, seed=1)


@pytest.fixture
def family(monkeypatch):
    """One with three tries: the second raises, the third's process is gone at once."""

    class Family:
        @staticmethod
        def tries():
            yield "a fault", lambda bench, fault: fault.add(True, {}, str(bench.chance.random()))
            yield "a fault", lambda bench, fault: 1 / 0
            yield "another", lambda bench, fault: torture.os._exit(1)

    monkeypatch.setitem(sys.modules, "torture.family", Family)
    monkeypatch.setattr(torture, "console", Console(file=StringIO()))


def test_a_try_that_raises_is_a_red_row_and_the_rest_goes_on(bench, family):
    rows: dict = {}
    torture._try_all(bench, ("family",), 1, rows)
    fault, _ = rows["family", "a fault"]
    assert (fault.tried, fault.survived, fault.verdict) == (2, 1, "FAILED")
    assert "ZeroDivisionError" in fault.notes[-1]
    gone, _ = rows["family", "another"]
    assert (gone.verdict, "BrokenProcessPool" in gone.notes[0]) == ("FAILED", True)


def test_the_table_ends_with_all_together():
    good, bad = Fault(name="good"), Fault(name="bad")
    good.add(True)
    bad.add(True, {"a": 4})
    left = Fault(name="left", left_out="no disk")
    rows = {("kills", "good"): (good, 1.0), ("raw", "bad"): (bad, 2.0), ("disk", "left"): (left, 0.0)}
    console = Console(file=StringIO(), width=120)
    console.print(torture._table(rows))
    said = [" ".join(line.replace("│", " ").replace("┃", " ").split()) for line in console.file.getvalue().splitlines()]
    assert "kills good 1 1 0 1 passed" in said
    assert "raw bad 1 1 4 2 FAILED" in said
    assert "disk left 0 0 0 0 left out: no disk" in said
    assert "together 2 2 4 3 1 FAILED" in said


def test_stages_are_tried_on_gpus_where_there_are_some(bench, monkeypatch):
    monkeypatch.delenv(gpu.DEVICE, raising=False)
    monkeypatch.setattr(gpu.Path, "glob", lambda *_: [])
    ((name, attempt),) = gpu.tries()
    attempt(bench, fault := Fault(name=name))
    assert fault.verdict == "left out: this machine has none"
    monkeypatch.setattr(gpu.Path, "glob", lambda *_: ["/dev/nvidia0", "/dev/nvidia1"])
    names = [name for name, _ in gpu.tries()]
    each = [f"{p}: {what}" for p in gpu.PRECISIONS for what in ("again", "SIGKILL at any moment", "two processes")]
    expected = dict.fromkeys(each, 7) | {"a batch that memory does not hold": 2}
    assert {name: names.count(name) for name in names} == expected


def test_there_is_a_locale_of_utf8():
    assert utf8_locale().lower().replace("-", "").endswith("utf8")
