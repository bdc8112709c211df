"""`python -m flows.plan` rehearses what is stale, small, and scales what that took."""

import json
from pathlib import Path

import pytest

from flows.estimates import Estimates, training_cost
from flows.override import TABLES
from flows.plan import size, total
from flows.rehearsal import Measured
from flows.shrunk import STEPS, Shrunk
from ldm.config import load, lookup, section
from ldm.diffusion.config import DiffusionTraining
from tests.flows.copies import copied

ROOT = Path(__file__).resolve().parents[2]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
STAGES = {
    entry["foreach"][2:-1]: stage for stage, entry in load(ROOT / "dvc.yaml")["stages"].items() if "foreach" in entry
}
REHEARSED = [(table, stage) for table, stage in STAGES.items() if stage not in ("export_study", "collect")]


@pytest.fixture(params=PRESETS, ids=lambda path: path.stem)
def params(request):
    return load(request.param)


def test_every_row_of_every_preset_has_a_small_one_that_is_valid(params):
    small = Shrunk(params)
    for table, stage in REHEARSED:
        for name in lookup(params, table) or {}:
            assert small.rows(stage, name)
    for table, cls in TABLES.items():
        place, _, below = table.partition(".")
        rows = small.params.get(place, {})
        for name in rows.get(below, {}) if below else rows:
            section(small.params, cls, f"{table}.{name}")


def test_a_small_training_has_the_sizes_of_the_whole_one(params):
    small = Shrunk(params)
    for name, row in params["diffusion"].items():
        [few] = [small.params["diffusion"][found] for found in small.rows("train_diffusion", name)]
        assert all(few[key] == row[key] for key in ("unet", "condition", "scale"))
        assert few["train"]["batch"] == row["train"]["batch"]
        assert few["train"]["steps"] == STEPS


def test_rows_of_the_same_shapes_are_rehearsed_once():
    params = load(ROOT / "presets/smoke.yaml")
    twin = params["diffusion"]["sr-f1"]
    params["diffusion"]["twin"] = twin | {"train": twin["train"] | {"steps": 900, "lr": 1.0e-5, "seed": 9}}
    wider = twin | {"unet": twin["unet"] | {"channels": 16}}
    params["diffusion"]["wider"] = wider
    small = Shrunk(params)
    one, same, other = (small.rows("train_diffusion", name) for name in ("sr-f1", "twin", "wider"))
    assert one == same != other


def test_counts_need_no_measurement(params):
    counts = Estimates(params, (), Shrunk(params), None)
    for table, stage in STAGES.items():
        for name in lookup(params, table) or {}:
            found = counts.of(stage, name)
            assert found.seconds is None
            if table == "diffusion":
                train = params["diffusion"][name]["train"]
                assert found.work == f"{train['steps']:,} steps of {train['batch']}"


def measured(**changed) -> Measured:
    """A training of STEPS steps: half a second each, the first with 2 seconds of reading, the last with a save of 1."""
    units = (0.5,) * (STEPS - 2) + (1.5,)
    values = {
        "ended": True, "process": 3.0, "first": 2.5, "units": units, "tail": 4.0, "done": STEPS, "total": STEPS,
        "memory": 1, "gpu_memory": 0, "output": 10, "scratch": 7,
    }  # fmt: skip
    return Measured(**(values | changed))


def training(**changed) -> DiffusionTraining:
    values = {
        "steps": STEPS, "batch": 8, "lr": 1e-3, "warmup": 0, "ema": 0.9, "seed": 1, "loss": "l2",
        "save_every": STEPS, "picture_every": STEPS,
    }  # fmt: skip
    return DiffusionTraining(**(values | changed))


def test_the_plan_of_a_rehearsal_is_what_it_took():
    took = measured()
    cost = training_cost(took, training(), alone=STEPS, unseen=0, output=10)
    assert cost.seconds == pytest.approx(took.process + took.rest)


def test_steps_saves_and_looks_are_counted_each():
    cost = training_cost(measured(), training(steps=1000, save_every=100, picture_every=250), 1000, 0, 10)
    assert cost.seconds == pytest.approx(3.0 + 2.0 + 1000 * 0.5 + 10 * 1.0 + 4 * 4.0)
    assert cost.scratch == 3 * 7


def test_steps_with_a_discriminator_take_their_own_time():
    units = (0.5,) * (STEPS - 1) + (0.8,) * STEPS
    cost = training_cost(measured(units=units, done=2 * STEPS), training(steps=1000), 300, 0, 10)
    assert cost.seconds == pytest.approx(3.0 + 2.0 + 300 * 0.5 + 700 * 0.8 + 100 * 4.0 + 0.0)


@pytest.fixture
def project(rebuilt, tmp_path):
    return copied(rebuilt, tmp_path / "project")


def planned(project, *arguments):
    return json.loads(project.stage("plan", "--json", *arguments).stdout)


def test_what_is_up_to_date_takes_nothing_and_what_is_stale_is_measured(project):
    assert {stage["note"] for stage in planned(project)["stages"].values()} == {"up to date"}
    project.edit("seed: 6, save_every: 6", "seed: 66, save_every: 6")
    project.edit("seed: 8}\n\nmethods", "seed: 88}\n\nmethods")
    before = project.run("git", "status", "--porcelain").stdout
    plan = planned(project, "sample@sr-f1")
    assert project.run("git", "status", "--porcelain").stdout == before
    assert not any((project.folder / ".resume").glob("*/*/*"))
    ran = {name for name, stage in plan["stages"].items() if stage["seconds"]}
    assert ran == {"train_diffusion@sr-f1", "sample@sr-f1"}
    for name in ran:
        stage, _, row = name.partition("@")
        real = json.loads((project.folder / f".logs/{stage}/{row}.json").read_text())
        assert plan["stages"][name]["memory"] == pytest.approx(real["peak_megabytes"] * 2**20, rel=0.1)
    written = sum(file.stat().st_size for file in (project.folder / "models/diffusion/sr-f1").iterdir())
    assert plan["stages"]["train_diffusion@sr-f1"]["output"] == pytest.approx(written, rel=0.05)


def test_what_does_not_fit_or_takes_too_long_is_said(project):
    project.edit("model: {channels: 8, ", "model: {channels: 65536, ")
    table = project.stage("plan", "train_autoencoder@kl-f4", COLUMNS="200").stdout
    assert "not measured: train_autoencoder: does not fit in the" in table
    assert "1 not measured" in table
    slow = planned(project, "train_autoencoder@kl-f4", "--limit", "0.1")["stages"]["train_autoencoder@kl-f4"]
    assert slow["note"].startswith(
        "not measured: train_autoencoder: it needs prepare, which takes more than 0.1 seconds"
    )


def test_a_mistake_is_one_line(project):
    project.edit("num_steps: 4, eta: 0.0}, guidance: 3.0", "num_stebs: 4, eta: 0.0}, guidance: 3.0")
    refused = project.stage("plan", "--no-measure", ok=False)
    assert refused.returncode == 1
    assert "unknown key 'num_stebs', did you mean 'num_steps'?" in refused.stderr.splitlines()[-1]


def test_times_add_up_and_the_largest_memory_counts():
    params = load(ROOT / "presets/smoke.yaml")
    nothing = Estimates(params, (), Shrunk(params), None).of("prepare", "scenes")
    whole = total([nothing, nothing])
    assert (whole.seconds, whole.memory, whole.note) == (0, 0, "2 not measured")
    assert size(999_000_000_000) == "999 GB"
