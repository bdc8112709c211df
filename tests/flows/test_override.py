"""`-S KEY=VALUE`: one value of params.yaml changes, everything else in it stays, and nothing wrong is ever written."""

import shutil
from pathlib import Path

import pytest

from flows.override import TABLES, override
from ldm.config import load, lookup

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def file(tmp_path) -> Path:
    return shutil.copy(ROOT / "presets/smoke.yaml", tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("key", "old", "new", "value"),
    [
        ("run.threads", "threads: 2,", "threads: 4,", 4),
        ("datasets.scenes.size", "size: 16", "size: 32", 32),
        ("diffusion.text-f4.train.lr", "lr: 2.0e-3", "lr: 1e-3", 1e-3),
        ("diffusion.text-f4.unet.channel_mult", "channel_mult: [1, 1.5]", "channel_mult: [1, 2, 3]", [1, 2, 3]),
        ("samples.sr-f4.sampler", "{kind: ddim, num_steps: 4, eta: 0.0}", "{kind: ddpm}", {"kind": "ddpm"}),
        ("evaluation.samples.sr-f4.batch", "batch: 8", "batch: 4", 4),
        ("studies.super-resolution.first", "first: sr-f4 ", "first: text-f4 ", "text-f4"),
        ("studies.super-resolution.question", "question: default ", 'question: "Which: # left?" ', "Which: # left?"),
    ],
)
def test_one_value_changes_and_every_other_character_stays(file, key, old, new, value):
    before = file.read_text().splitlines(keepends=True)
    was = lookup(load(file), key)
    (said,) = override([f"{key}={new.partition(': ')[2] if new[0] != '{' else new}".removesuffix(",")], file)
    after = file.read_text().splitlines(keepends=True)
    (line,) = [number for number, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
    assert after[line] == before[line].replace(old, new)
    assert lookup(load(file), key) == value
    assert said == f"{file}, line {line + 1}: {key}: {was} -> {value}"


def test_several_values_are_written_together_and_only_as_a_whole_valid(file):
    diffusers = "diffusion.sr-f4.objective=v", "diffusion.sr-f4.scale=1.0"
    assert [said.partition(": ")[0][-3:] for said in override(diffusers, file)] == [" 64", " 66"]
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"run\.threads"):
        override(["diffusion.sr-f4.objective=epsilon", "run.threads=0"], file)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("assignment", "why"),
    [
        ("datasets.scenes.sise=32", "params.yaml: datasets.scenes: no entry 'sise', did you mean 'size'?"),
        ("diffusion.text-f5.scale=1.0", "params.yaml: diffusion: no entry 'text-f5', did you mean 'text-f4'?"),
        ("threads=2", "params.yaml: the top level: no entry 'threads' (there is: run, datasets, "),
        ("run.threads", "-S run.threads: expected KEY=VALUE, such as -S run.threads=2"),
        ("run.threads=0", "params.yaml: run.threads: input should be greater than or equal to 1, found 0"),
        ("run.mode=exactly", "params.yaml: run.mode: "),
        ("datasets.scenes.size=large", "params.yaml: datasets.scenes.size: "),
        ("samples.sr-f4.sampler={kind: ddim}", "params.yaml: samples.sr-f4.sampler.num_steps: missing"),
        ("studies.super-resolution.hand_in=Send it: now", "-S studies.super-resolution.hand_in=Send it: now: not one"),
        ("samples.sr-f4.batch=8, seed: 3", "-S samples.sr-f4.batch=8, seed: 3: not one YAML value"),
        ("diffusion.sr-f4.unet.channel_mult=[1, 2", "-S diffusion.sr-f4.unet.channel_mult=[1, 2: not one YAML value"),
        ("latents.scenes-kl-f4=none", "-S latents.scenes-kl-f4: more than one value; name one below it: "),
    ],
)
def test_what_is_wrong_is_refused_and_nothing_is_written(file, assignment, why):
    before = file.read_bytes()
    with pytest.raises(ValueError) as refused:  # noqa: PT011 the whole line is compared
        override([assignment], file)
    assert str(refused.value).replace(str(file), "params.yaml").startswith(why)
    assert "\n" not in str(refused.value)
    assert file.read_bytes() == before


def test_a_value_taken_over_from_another_entry_is_changed_there(file):
    file.write_text(file.read_text().replace("run: {mode: exact,", "run: &run {mode: exact,") + "again: *run\n")
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"again\.threads=4"):
        override(["again.threads=4"], file)
    assert file.read_bytes() == before


def test_every_table_that_makes_stages_is_checked():
    stages = load(ROOT / "dvc.yaml")["stages"].values()
    assert {entry["foreach"].strip("${}") for entry in stages if "foreach" in entry} == set(TABLES)
