"""The resume key differs where any input of a stage does, and nowhere else; and it knows the inputs that DVC knows."""

import os
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
from dvc.dependency import ParamsDependency
from dvc.repo import Repo

from flows.inputs import declaration, key, numeric_versions, resume_folder
from ldm.files import write_manifest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A small project: `train` of two models, each on a data set of its own; one data set with a manifest."""
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n"
        "  train:\n"
        "    foreach: ${group.models}\n"
        "    do:\n"
        "      cmd: train ${key}\n"
        "      deps: [code, 'data/${item.data}']\n"
        "      params: ['group.models.${key}', run]\n"
        "      outs: ['models/${key}']\n"
        "  report: {cmd: report, deps: [data], params: [run]}\n"
    )
    (tmp_path / "params.yaml").write_text(
        "run: {threads: 2}\n"
        "group: {models: {first: {data: plain, lr: 1e-3}, second: {data: listed, lr: 0.1}}}\n"
    )  # fmt: skip
    (tmp_path / "constraints-numeric.txt").write_text("# pins\nnumpy==9.9\nno-such-package==1.0\n")
    for folder in ("code/room", "data/plain", "data/listed"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").write_text(folder)
    write_manifest(tmp_path / "data/listed")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_the_key_is_the_same_for_the_same_inputs(project):
    before = key("train", "first")
    os.utime(project / "code/room/file", (0, 0))
    (project / "code/room/__pycache__").mkdir()
    (project / "code/room/__pycache__/file.pyc").write_text("cache")
    (project / "data/plain/.gitignore").write_text("/x")
    assert key("train", "first") == before
    assert len(before) == 16
    assert int(before, 16) >= 0


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("params.yaml", "lr: 1e-3", "lr: 2e-3"),
        ("params.yaml", "threads: 2", "threads: 1"),
        ("code/room/file", "code", "edoc"),
        ("data/plain/file", "data", "more"),
        ("dvc.yaml", "deps: [code, ", "deps: ["),
    ],
)
def test_the_key_follows_params_code_data_and_declarations(project, file, old, new):
    before = key("train", "first")
    edit(project / file, old, new)
    assert key("train", "first") != before


def test_the_key_follows_names_of_files_and_new_files(project):
    keys = {key("train", "first")}
    (project / "code/room/file").rename(project / "code/room/renamed")
    keys.add(key("train", "first"))
    (project / "code/new").touch()
    keys.add(key("train", "first"))
    assert len(keys) == 3


def test_the_key_does_not_follow_other_rows_comments_or_the_order_of_keys(project):
    before = key("train", "first")
    edit(project / "params.yaml", "lr: 0.1", "lr: 0.2")
    edit(project / "params.yaml", "{data: plain, lr: 1e-3}", "{lr: 0.001, data: plain}")
    edit(project / "params.yaml", "run:", "# a comment\nrun:")
    (project / "data/listed/file").write_text("changed")
    assert key("train", "first") == before


def test_a_folder_with_a_manifest_is_known_by_it(project):
    before = key("train", "second")
    (project / "data/listed/file").write_text("changed")
    assert key("train", "second") == before
    write_manifest(project / "data/listed")
    assert key("train", "second") != before


def test_the_key_follows_installed_versions_of_the_pinned_packages(project):
    assert numeric_versions() == {"numpy": version("numpy"), "no-such-package": "absent"}
    before = key("train", "first")
    edit(project / "constraints-numeric.txt", "no-such-package==1.0\n", "")
    assert key("train", "first") != before


def test_a_missing_input_is_said(project):
    shutil.rmtree(project / "data/plain")
    with pytest.raises(ValueError, match=r"data/plain: not found; bring it there, or run the stage that writes it"):
        key("train", "first")
    edit(project / "params.yaml", "run: {threads: 2}\n", "")
    with pytest.raises(ValueError, match=r"params\.yaml: the top level: no entry 'run' \(there is: group\)"):
        key("train", "second")


def test_the_state_stays_where_the_stage_fails_and_goes_where_it_ends(project):
    def fail() -> None:
        with resume_folder("train", "first") as folder:
            (folder / "state").write_text("step 5")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    edit(project / "params.yaml", "lr: 1e-3", "lr: 2e-3")
    with resume_folder("train", "first") as folder:
        assert not list(folder.iterdir()), "a changed parameter never picks up an old state"
        assert len(list((project / ".resume/train/first").iterdir())) == 2
    assert not (project / ".resume/train/first").exists()
    with resume_folder("train", "second") as folder:
        assert folder == Path(".resume/train/second", key("train", "second"))


def test_a_declaration_is_what_dvc_makes_of_dvc_yaml(monkeypatch):
    """For every stage of the real dvc.yaml: the same dependencies and parameters, filled in for each name."""
    monkeypatch.chdir(ROOT)
    stages = Repo(str(ROOT)).index.stages
    for stage in stages:
        declared = declaration(*stage.name.split("@")) if "@" in stage.name else declaration(stage.name, stage.name)
        params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
        assert sorted(declared["deps"]) == sorted(str(dep) for dep in stage.deps if dep not in params)
        assert sorted(declared["params"]) == sorted(name for dep in params for name in dep.params)
        assert declared["cmd"] == stage.cmd
    assert len(stages) > 10
