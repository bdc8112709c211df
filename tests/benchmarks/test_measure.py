"""The frame of the benchmarks: what is timed, printed and written."""

import time

import pytest

from benchmarks.measure import arguments, result, seconds, side_by_side, table, write
from ldm.files import read_json


def test_options_are_typed_by_their_defaults(tmp_path):
    given = ["--batch", "8", "--kind", "vq-f4", "--no-compile", "--device", "cpu", "--out", str(tmp_path / "x.json")]
    options = arguments("doc", given, batch=48, kind=("kl-f8", "vq-f4"), no_compile=False, lr=0.1)
    assert (options.batch, options.kind, options.no_compile, options.lr) == (8, "vq-f4", True, 0.1)
    assert arguments("doc", [], kind=("kl-f8", "vq-f4"), no_compile=False).kind == "kl-f8"
    with pytest.raises(SystemExit):
        arguments("doc", ["--kind", "kl-f4"], kind=("kl-f8", "vq-f4"))


def test_sides_take_turns_after_their_warm_up():
    order: list[str] = []
    steps = {name: lambda name=name: order.append(name) for name in "ab"}
    taken = side_by_side(steps, device="cpu", warmup=2, repeats=3)
    assert "".join(order) == "aabb" + "ababab"
    assert [len(repeats) for repeats in taken.values()] == [3, 3]


def test_seconds_are_those_of_each_call():
    assert all(0.01 <= spent < 0.5 for spent in seconds(lambda: time.sleep(0.01), device="cpu", warmup=0, repeats=3))


def test_results_hold_machine_settings_repeats_and_medians(tmp_path, capsys):
    options = arguments("doc", ["--device", "cpu", "--out", str(tmp_path / "result.json")], batch=4)
    write(options.out, result(options, {"ours": [1.0, 3.0, 2.0]}, ratio=1.5))
    found = read_json(options.out)
    assert found["machine"]["cpu"]
    assert found["machine"]["gpu"] is None
    assert found["settings"] == {"device": "cpu", "batch": 4}
    assert (found["seconds"], found["median"], found["ratio"]) == ({"ours": [1.0, 3.0, 2.0]}, {"ours": 2.0}, 1.5)
    assert str(options.out) in capsys.readouterr().out


def test_a_table_is_aligned(capsys):
    table("Title", ["name", "seconds"], [["ours", 1.23456], ["diffusers", 20]])
    assert capsys.readouterr().out.splitlines() == [
        "",
        "Title",
        "  name       seconds",
        "  ours         1.235",
        "  diffusers       20",
    ]
