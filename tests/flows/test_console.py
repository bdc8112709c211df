"""A stage says on stderr how far it is: on a terminal in one line that moves, in a log in a line now and then."""

import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.console import Pace, duration, line, told
from ldm.progress import Progress

ROOT = Path(__file__).resolve().parents[2]


def steps(*done: int, total: int = 100) -> Iterator[Progress]:
    for number in done:
        yield Progress(done=number, total=total)


def test_the_records_pass_through_unchanged(capsys):
    records = list(steps(1, 2, 3))
    assert list(told("a", iter(records))) == records
    assert capsys.readouterr().out == ""


def test_a_log_gets_a_line_now_and_then_and_the_last_one_once(capsys):
    list(told("train kl", steps(*range(1, 101))))
    [only] = capsys.readouterr().err.splitlines()
    assert only.startswith("train kl  100/100 steps  ")
    list(told("train kl", steps(1, 2), every=0))
    said = capsys.readouterr().err.splitlines()
    assert [text.split("  ")[1] for text in said] == ["1/100 steps", "2/100 steps"]


def test_a_stage_that_fails_leaves_the_line_of_how_far_it_came(capsys):
    def failing() -> Iterator[Progress]:
        yield from steps(1, 2)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(told("a", failing()))
    assert capsys.readouterr().err.startswith("a  2/100 steps")


def test_what_was_done_in_another_unit_before_is_said_too(capsys):
    records = [Progress(done=done, total=2, unit=unit) for unit in ("shards", "pictures") for done in (1, 2)]
    list(told("prepare scenes", iter(records), every=60))
    assert [text.split("  ")[1] for text in capsys.readouterr().err.splitlines()] == ["2/2 shards", "2/2 pictures"]


def test_a_stage_without_records_says_nothing(capsys):
    assert list(told("a", iter(()))) == []
    assert capsys.readouterr().err == ""


def test_on_a_terminal_there_is_one_line_that_is_written_over():
    program = (
        "from flows.console import told; from ldm.progress import Progress\n"
        "for _ in told('a', (Progress(done=n, total=3) for n in (1, 2, 3)), every=0): pass"
    )
    screen, terminal = pty.openpty()
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, stderr=terminal, check=True)
    os.close(terminal)
    written = os.read(screen, 10_000).decode()
    os.close(screen)
    assert (
        re.sub(r"  [\d.e+]+ steps/s  0:00 left", "", written)
        == "".join(f"\r\033[Ka  {n}/3 steps" for n in (1, 2, 3)) + "\r\n"
    )


def test_a_line_says_how_far_how_fast_how_long_and_what():
    progress = Progress(done=5, total=20, unit="pictures", scalars={"loss": 0.123456, "lr": 2e-5})
    assert line("encode a", progress, 12.345, 75.0) == (
        "encode a  5/20 pictures  12.3 pictures/s  1:15 left  loss 0.1235  lr 2e-05"
    )
    assert line("encode a", progress, None, None) == "encode a  5/20 pictures  loss 0.1235  lr 2e-05"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3725, "1:02:05"), (90_000, "25:00:00")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_pace_of_a_resumed_stage_does_not_count_what_it_found_done():
    pace = Pace()
    assert pace.at(Progress(done=900, total=1000)) == (None, None)
    time.sleep(0.1)
    rate, left = pace.at(Progress(done=910, total=1000))
    assert 0 < rate <= 100
    assert left == pytest.approx(90 / rate)


def test_the_pace_is_that_of_the_last_while():
    pace = Pace(window=0.05)
    for done in (0, 1, 2):
        since = time.monotonic()
        pace.at(Progress(done=done, total=100))
        time.sleep(0.1)
    rate, _ = pace.at(Progress(done=22, total=100))
    assert rate == pytest.approx(20 / (time.monotonic() - since), rel=0.1), "the slow start is forgotten"


def test_a_stage_that_stands_still_has_no_pace_and_one_that_begins_again_a_new_one():
    pace = Pace()
    assert [pace.at(Progress(done=5, total=9)) for _ in range(3)] == [(None, None)] * 3
    assert pace.at(Progress(done=1, total=9)) == (None, None)
    time.sleep(0.01)
    assert pace.at(Progress(done=2, total=9))[0] > 0
