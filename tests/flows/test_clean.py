"""`python -m flows.clean` says what it would free, asks, and takes nothing that is needed."""

import fcntl
import os
import subprocess
import sys

import pytest

from tests.flows.copies import contents, copied

UNUSED = ".dvc/cache/files/md5/ab/cdefabcdefabcdefabcdefabcdefab"


@pytest.fixture
def project(rebuilt, tmp_path):
    """With the state of a killed training, a half-written shard, one that is being written now, and unused cache."""
    project = copied(rebuilt, tmp_path / "project")
    for name in (
        ".resume/train_autoencoder/kl-f4/0123456789abcdef/step-000000006.pt",
        "data/prepared/scenes/.train-00000.parquet.4194305.part",  # no system has that many processes
        f"data/prepared/scenes/.test-00000.parquet.{os.getpid()}.part",
        UNUSED,
    ):
        (project.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (project.folder / name).write_bytes(bytes(1000))
    return project


def answered(project, answer):
    return subprocess.run(
        [sys.executable, "-m", "flows.clean"],
        cwd=project.folder, env=project.environment | {"COLUMNS": "200"}, input=answer, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_nothing_goes_without_a_yes(project, answer):
    before = contents(project.folder)
    said = answered(project, answer)
    assert said.returncode == 1
    assert all(kind in said.stdout for kind in ("interrupted stages", "half-written files", "unused DVC cache"))
    after = contents(project.folder)
    assert {name for name in before if not name.startswith((".dvc/tmp", ".git/"))} <= set(after)


def test_what_is_needed_stays(project):
    results = {place: contents(project.folder / place) for place in ("models", "samples", "metrics", "report")}
    project.stage("clean", "--yes")
    assert not (project.folder / UNUSED).exists()
    assert not list((project.folder / ".resume").glob("*/*/*"))
    assert [path.name for path in project.folder.rglob(".*.part")] == [f".test-00000.parquet.{os.getpid()}.part"]
    assert {place: contents(project.folder / place) for place in results} == results
    (project.folder / f"data/prepared/scenes/.test-00000.parquet.{os.getpid()}.part").unlink()
    for folder in ("models/diffusion/text-f4", "samples/sr-f4"):
        project.run("rm", "-r", folder)
    project.run("dvc", "checkout")  # all of it is in the cache still
    assert {place: contents(project.folder / place) for place in results} == results
    assert project.stage("clean", "--yes").stdout == "nothing to remove\n"


def test_the_cache_can_be_kept(project):
    project.stage("clean", "--yes", "--keep-cache")
    assert (project.folder / UNUSED).exists()
    assert not list((project.folder / ".resume").glob("*/*/*"))


def test_a_cache_of_several_projects_is_left_alone(project, tmp_path):
    (project.folder / ".dvc/cache").rename(tmp_path / "cache")
    project.run("dvc", "cache", "dir", "--local", str(tmp_path / "cache"))
    assert "DVC's cache is shared" in project.stage("clean", "--yes").stdout
    assert (tmp_path / "cache" / UNUSED.removeprefix(".dvc/cache/")).exists()


def test_it_refuses_while_a_stage_runs(project):
    with (project.folder / ".resume/sample/sr-f4.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write("17")
        lock.flush()
        refused = project.stage("clean", "--yes", ok=False)
    assert refused.returncode == 1
    assert refused.stderr == "clean: sample@sr-f4 runs here (process 17); wait for it, or end it first\n"
    assert (project.folder / UNUSED).exists()
