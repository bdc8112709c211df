"""The memory that a step needs is counted as a process takes it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks import memory
from benchmarks._counted import Counted
from ldm.config import load
from ldm.files import read_json

T = TypeVar("T")
BATCH = 2


class Profiled(memory.Real):
    """The CPU, and the most bytes that torch's profiler saw each function hold at once."""

    def __init__(self, trace: Path) -> None:
        super().__init__("cpu")
        self.trace = trace
        self.peaks: dict[str, int] = {}

    def graphed(self, function: Callable[..., T], name: str) -> Callable[..., T]:
        def call(**inputs: Any) -> T:
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
                made = function(**inputs)
            seen.export_chrome_trace(str(self.trace))
            events = [e["args"] for e in read_json(self.trace)["traceEvents"] if e["name"] == "[memory]"]
            before = events[0]["Total Allocated"] - events[0]["Bytes"]
            self.peaks[name] = max(event["Total Allocated"] for event in events) - before
            return made

        return call


def narrow(kind: str, name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """presets/paper.yaml, in which the row has another width and fewer levels."""
    params = load("presets/paper.yaml")
    row = params[kind][name]
    model = row["unet" if kind == "diffusion" else "model"]
    model |= {"channels": 32, "channel_mult": [1, 2], "attention_factors": [2]} | changes
    if kind == "autoencoders":
        row["train"]["crop"] = 32
    elif "layers" in row["condition"]["tokens"]:
        row["condition"]["tokens"]["layers"] = 2
    return params


@pytest.mark.parametrize(
    ("kind", "name", "changes", "within"),
    [
        pytest.param("diffusion", "celeba256", {}, 0.03, id="attention"),
        pytest.param("diffusion", "celeba256", {"checkpointing": True}, 0.03, id="checkpointing"),
        pytest.param("diffusion", "layout2img-coco-f8", {}, 0.05, id="transformers, dropout"),
        pytest.param("autoencoders", "vq-f8", {}, 0.2, id="first stage"),
    ],
)
def test_what_is_counted_is_what_a_cpu_holds(kind, name, changes, within, tmp_path):
    """Convolutions of a CPU, above all the discriminator's, may hold a copy of their own."""
    params, make = narrow(kind, name, changes), memory.STEPS[kind]
    profiled = Profiled(tmp_path / "trace.json")
    _, step = make(params, name, BATCH, profiled)
    with sdpa_kernel(SDPBackend.MATH):  # as the meta device counts it
        step()
    with Counted(gpu=False).counting() as counted:
        _, step = make(params, name, BATCH, counted)
        step()
    assert {pool: peak for pool, peak in counted.peaks.items() if pool} == pytest.approx(profiled.peaks, rel=within)


def test_a_gpu_holds_five_numbers_a_parameter_and_less_to_go_backward():
    params = narrow("diffusion", "celeba256", {})
    needs = memory.computed("diffusion", params, "celeba256", BATCH)
    assert needs.static == pytest.approx(5 * 4 * needs.parameters, rel=0.05)
    with Counted(gpu=False).counting() as plain:
        _, step = memory.diffusion_step(params, "celeba256", BATCH, plain)
        step()
    assert needs.reserved - needs.static < (plain.reserved - plain.held) / 2, "half the bytes, and fused norms"


def test_checkpointing_keeps_less():
    params = narrow("diffusion", "celeba256", {})
    kept, again = (
        memory.computed("diffusion", p, "celeba256", 8) for p in (params, memory.checkpointing(params, "celeba256"))
    )
    assert again.static == kept.static
    assert again.reserved < kept.reserved


@pytest.mark.parametrize("batch", [1, 8, 200])
def test_the_largest_batch_is_the_last_that_fits(batch):
    def needs(batch: int) -> int:
        return max(1000 + batch, 90 * batch - 300)

    found = memory.largest(5000, needs, batch)
    assert needs(found) <= 5000 < needs(found + 1)
    assert memory.largest(500, needs, batch) == 0


def test_a_row_of_the_table(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(memory, "load", lambda path: narrow("diffusion", "celeba256", {}))
    out = tmp_path / "memory.json"
    monkeypatch.setattr("sys.argv", ["memory.py", "--device", "cpu", "--only", "celeba256", "--out", str(out)])
    memory.main()
    found = read_json(out)["bytes"]
    assert found.keys() == {"celeba256"}
    row = found["celeba256"]
    assert row["batch"] == 48
    assert row["static"] < row["peak"] < memory.CARDS["80 GB"]
    assert 48 < row["largest_batch"]["80 GB"] < row["largest_batch"]["141 GB"]
    assert "celeba256" in capsys.readouterr().out
