"""Killed at any moment, started anywhere, stages end in the same bytes: real processes, and a real SIGKILL.

That a training may be stopped after every single step is held in one process, by tests/training/test_resume.py.
"""

import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ldm.files import MANIFEST, read_json
from tests.flows.copies import contents, copied

AUTOENCODER = "train_autoencoder", "kl-f4"
DIFFUSION = "train_diffusion", "text-f4"
OUTPUTS = {AUTOENCODER: "models/autoencoders/kl-f4", DIFFUSION: "models/diffusion/text-f4"}
STEPS = 20  # of every training in the smoke preset, with a checkpoint every 6
SEED = secrets.randbelow(10**6)
"""Of the moments at which processes are killed, which are others each time."""
chance = random.Random(SEED)


@pytest.fixture
def project(rebuilt, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # the same bytes, several times sooner where cores are shared
    return copied(rebuilt, tmp_path / "project")


def kill(project, *command: str, when: Callable[[], bool], within: float = 0.06, **environment: str) -> None:
    """Start `command`, and end it and all its children by SIGKILL `within` so many seconds after `when()` holds."""
    delay = chance.uniform(0, within)
    process = subprocess.Popen(
        command, cwd=project.folder, env=project.environment | environment, process_group=0,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not when() and process.poll() is None:
        time.sleep(0.001)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)
    _, said = process.communicate()
    print(f"seed {SEED}: killed {delay:.4f} s after the moment for it")
    assert process.returncode == -signal.SIGKILL, f"it ended before it was killed: {said}"


def python(stage: str, name: str) -> tuple[str, ...]:
    return sys.executable, "-m", f"flows.{stage}", name


def checkpoints(project, stage: str, name: str) -> list[int]:
    """The steps at which the state of an interrupted training is kept."""
    notes = (project.folder / ".resume" / stage / name).glob("*/step-*.json")
    return sorted(int(note.stem.removeprefix("step-")) for note in notes)


def went_on_from(project, stage: str, name: str, saved: int) -> bool:
    """Whether the last run of a training began there; where it had a note to tell, that was its first record."""
    first = STEPS - read_json(project.folder / ".logs" / stage / f"{name}.json")["units"]
    return first in (saved, saved + 1)


def kill_after_next_checkpoint(project, *training: str, command: tuple[str, ...], **environment: str) -> int:
    """Kill the training in its middle; the step from which it has to go on."""
    before = max(checkpoints(project, *training), default=0)
    kill(project, *command, when=lambda: max(checkpoints(project, *training), default=0) > before, **environment)
    assert not (project.folder / OUTPUTS[training] / MANIFEST).exists()
    saved = max(checkpoints(project, *training))
    assert before < saved < STEPS
    return saved


def test_an_autoencoder_killed_twice_ends_in_the_same_bytes(project, rebuilt):
    out = OUTPUTS[AUTOENCODER]
    shutil.rmtree(project.folder / out)
    for workers in ("0", "2"):
        saved = kill_after_next_checkpoint(project, *AUTOENCODER, command=python(*AUTOENCODER), LDM_WORKERS=workers)
    project.stage(*AUTOENCODER)
    assert went_on_from(project, *AUTOENCODER, saved)
    assert contents(project.folder / out) == contents(rebuilt.folder / out)
    assert not (project.folder / ".resume" / "/".join(AUTOENCODER)).exists()


def test_dvc_repro_killed_twice_in_a_diffusion_training_ends_in_the_same_lock(project, rebuilt):
    out = OUTPUTS[DIFFUSION]
    shutil.rmtree(project.folder / out)
    shutil.rmtree(project.folder / ".dvc/cache")  # else DVC need not train at all
    repro = "dvc", "repro", "@".join(DIFFUSION)
    for _ in range(2):
        saved = kill_after_next_checkpoint(project, *DIFFUSION, command=repro)
    project.run(*repro)
    assert went_on_from(project, *DIFFUSION, saved)
    assert contents(project.folder / out) == contents(rebuilt.folder / out)
    assert (project.folder / "dvc.lock").read_text() == (rebuilt.folder / "dvc.lock").read_text()


@pytest.mark.parametrize(
    ("stage", "name", "out", "shard"),
    [
        ("prepare", "scenes", "data/prepared/scenes", "part-000000000.arrow"),
        ("sample", "text-f4", "samples/text-f4", "batch-000000000.safetensors"),
    ],
)
def test_killed_between_shards_a_stage_ends_in_the_same_bytes(stage, name, out, shard, project, rebuilt):
    folder = project.folder / out
    shutil.rmtree(folder)
    state = project.folder / ".resume" / stage / name
    kill(project, *python(stage, name), when=lambda: any(state.glob(f"*/{shard}")), within=0.02)
    assert not folder.exists()
    assert any(state.glob(f"*/{shard}"))
    project.stage(stage, name)
    assert contents(folder) == contents(rebuilt.folder / out)


def test_a_damaged_checkpoint_leaves_the_one_before_it_and_ends_in_the_same_bytes(project, rebuilt):
    shutil.rmtree(project.folder / OUTPUTS[AUTOENCODER])
    for _ in range(2):
        kill_after_next_checkpoint(project, *AUTOENCODER, command=python(*AUTOENCODER))
    before, newest = checkpoints(project, *AUTOENCODER)[-2:]
    (damaged,) = (project.folder / ".resume").rglob(f"step-{newest:09d}.pt")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    done = project.stage(*AUTOENCODER)
    assert f"{damaged.name} is damaged; going back" in done.stderr
    assert went_on_from(project, *AUTOENCODER, before)
    assert contents(project.folder / OUTPUTS[AUTOENCODER]) == contents(rebuilt.folder / OUTPUTS[AUTOENCODER])


def test_a_stage_that_outlived_its_dvc_is_not_joined_by_another(project, rebuilt):
    out = OUTPUTS[AUTOENCODER]
    shutil.rmtree(project.folder / out)
    left_behind = project.start(*python(*AUTOENCODER))
    while not checkpoints(project, *AUTOENCODER):
        time.sleep(0.001)
    left_behind.send_signal(signal.SIGSTOP)
    done = project.stage(*AUTOENCODER, ok=False)
    left_behind.kill()
    left_behind.communicate()
    assert done.returncode == 1
    assert done.stderr == (
        f"train_autoencoder kl-f4: it runs here already; wait for it, or end it first: kill {left_behind.pid}\n"
    )
    project.stage(*AUTOENCODER)
    assert not went_on_from(project, *AUTOENCODER, 0)
    assert contents(project.folder / out) == contents(rebuilt.folder / out)


def test_a_parameter_changed_after_a_kill_begins_anew(project, rebuilt):
    out = project.folder / OUTPUTS[AUTOENCODER]
    shutil.rmtree(out)
    kill_after_next_checkpoint(project, *AUTOENCODER, command=python(*AUTOENCODER))
    project.edit("seed: 2, flip", "seed: 20, flip")
    project.stage(*AUTOENCODER)
    assert went_on_from(project, *AUTOENCODER, 0)
    after_a_kill = contents(out)
    project.stage(*AUTOENCODER)
    assert contents(out) == after_a_kill != contents(rebuilt.folder / OUTPUTS[AUTOENCODER])


def test_another_number_of_loader_workers_changes_no_byte(project, rebuilt):
    out = OUTPUTS[DIFFUSION]
    shutil.rmtree(project.folder / out)
    project.stage(*DIFFUSION, LDM_WORKERS="3")
    assert contents(project.folder / out) == contents(rebuilt.folder / out)


@pytest.mark.parametrize(
    ("stage", "name", "out"),
    [
        ("prepare", "scenes", "data/prepared/scenes"),
        ("cache_latents", "scenes-kl-f4", "data/latents/scenes-kl-f4"),
        ("collect", "bicubic", "samples/bicubic"),
    ],
)
def test_killed_while_writing_a_stage_leaves_no_half_file_under_its_name(stage, name, out, project, rebuilt):
    folder, whole = project.folder / out, contents(rebuilt.folder / out)
    shutil.rmtree(folder)
    kill(project, *python(stage, name), when=lambda: folder.is_dir() and any(folder.iterdir()), within=0.02)
    left = {path: content for path, content in contents(folder).items() if not Path(path).name.startswith(".")}
    assert left.items() <= whole.items()
    assert MANIFEST not in left or left == whole  # it says that all is there, so it comes last
    project.stage(stage, name)
    assert contents(folder) == whole


def test_what_a_killed_stage_was_writing_is_in_no_hash(project):
    (project.folder / "metrics/.text-f4.json.123.part").write_text("half")
    (project.folder / "studies/super-resolution/.key.json.123.part").write_text("half")
    assert "up to date" in project.run("dvc", "status", "report").stdout
    assert project.run("git", "status", "--porcelain").stdout == ""


def test_the_surroundings_of_a_process_are_in_no_hash(project, rebuilt):
    """Not its umask, language, time zone, seed of hashes, nor the folder, which is another one here anyway."""
    done = project.run(
        "sh", "-c", "umask 077 && exec dvc repro --force --no-run-cache prepare@scenes cache_latents@scenes-pixels",
        LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", TZ="Asia/Kathmandu", PYTHONHASHSEED="17",
    )  # fmt: skip
    assert "prepare scenes  120/120" in done.stderr
    assert "cache_latents scenes-pixels  120/120" in done.stderr
    assert (project.folder / "dvc.lock").read_text() == (rebuilt.folder / "dvc.lock").read_text()
