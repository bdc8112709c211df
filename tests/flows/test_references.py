"""A row that names what is not there is said in one line, with the nearest name: by stages and by the pipeline."""

import shutil
from pathlib import Path

import pytest

from flows.references import check
from flows.stage import run
from flows.train_autoencoder import stage
from ldm.config import load, lookup

ROOT = Path(__file__).resolve().parents[2]
STAGES = load(ROOT / "dvc.yaml")["stages"]


@pytest.fixture
def project(tmp_path) -> Path:
    for name, file in (("presets/smoke.yaml", "params.yaml"), ("dvc.yaml", "dvc.yaml")):
        shutil.copy(ROOT / name, tmp_path / file)
    (tmp_path / "data/weights/none").mkdir(parents=True)
    (tmp_path / "data/weights/squeezenet.dvc").touch()
    for table in ("autoencoders", "diffusion"):
        (tmp_path / "models" / table / "none").mkdir(parents=True)
    return tmp_path


def written(project, old, new):
    file = project / "params.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("stage", "name", "old", "new", "message"),
    [
        ("train_autoencoder", "kl-f4", "dataset: scenes", "dataset: scenez",
         "autoencoders.kl-f4.dataset: no 'scenez' in data/prepared, did you mean 'scenes'?"),
        ("train_autoencoder", "kl-f4", "perceptual: none", "perceptual: squeezenets",
         "autoencoders.kl-f4.perceptual: no 'squeezenets' in data/weights, did you mean 'squeezenet'?"),
        ("train_diffusion", "sr-f1", "latents: scenes-pixels", "latents: x",
         "diffusion.sr-f1.latents: no 'x' in data/latents (there is: scenes-kl-f4, scenes-pixels)"),
        ("export_study", "super-resolution", "first: sr-f4", "first: sr-f5",
         "studies.super-resolution.first: no 'sr-f5' in samples, did you mean 'sr-f4'?"),
    ],
)  # fmt: skip
def test_a_misnamed_reference_names_its_place_and_the_nearest(project, stage, name, old, new, message):
    check([(stage, name)], project)
    written(project, old, new)
    with pytest.raises(ValueError, match=r"^params\.yaml: ") as caught:
        check([(stage, name)], project)
    assert str(caught.value) == f"params.yaml: {message}"
    check([("prepare", "scenes")], project)


def test_what_was_imported_and_is_no_row_may_be_named(project):
    written(project, "model: sr-f4", "model: released")
    with pytest.raises(ValueError, match="no 'released' in models/diffusion"):
        check([("sample", "sr-f4")], project)
    (project / "models/diffusion/released").mkdir()
    check([("sample", "sr-f4")], project)


def test_rows_that_lack_a_key_or_are_none_are_left_to_their_stage(project):
    written(project, "    dataset: scenes\n", "")
    check([("train_autoencoder", "kl-f4"), ("sample", "nothing"), ("report", "report")], project)


@pytest.mark.parametrize("preset", sorted((ROOT / "presets").glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_name_nothing_that_is_not_there(project, preset):
    """But for weights, which a preset names for people to bring."""
    params = load(preset)
    tables = {stage: entry["foreach"][2:-1] for stage, entry in STAGES.items() if "foreach" in entry}
    rows = {(stage, name): row for stage, table in tables.items() for name, row in lookup(params, table).items()}
    for row in rows.values():
        for key in ("perceptual", "features", "weights", "vocabulary", "clip"):
            (project / "data/weights" / row.get(key, "none")).mkdir(exist_ok=True)
    shutil.copy(preset, project / "params.yaml")
    check(rows, project)


def test_a_stage_says_it(project, monkeypatch, capsys):
    written(project, "dataset: scenes", "dataset: scenez")
    monkeypatch.chdir(project)
    assert run(stage, "train_autoencoder", "kl-f4", plain=True) == 1
    line = "params.yaml: autoencoders.kl-f4.dataset: no 'scenez' in data/prepared, did you mean 'scenes'?"
    assert capsys.readouterr().err == f"train_autoencoder kl-f4: {line}\n"
