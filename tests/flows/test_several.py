"""A stage in several processes, as its user starts it: killed in part or whole, and what is refused."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flows.copies import contents, copied

STAGE = "train_diffusion", "text-f4"
OUT = "models/diffusion/text-f4"


@pytest.fixture
def project(rebuilt, tmp_path):
    project = copied(rebuilt, tmp_path / "project")
    project.edit("loss: l2, ema: 0.9, seed: 4,", "loss: l2, ema: 0.9, seed: 4, micro_batches: 2,")
    return project


def started(project, processes: int):
    return project.start(sys.executable, "-m", "flows." + STAGE[0], STAGE[1], LDM_PROCESSES=str(processes))


def until(true: Callable[[], object], process=None, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it took too long"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def checkpoints(project) -> list[str]:
    return sorted(note.name for note in (project.folder / ".resume" / STAGE[0] / STAGE[1]).glob("*/step-*.json"))


def children(process) -> dict[int, int]:
    """By rank."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    environments = {int(pid): Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in listed}
    ranks = {pid: [int(v[5:]) for v in values if v.startswith(b"RANK=")] for pid, values in environments.items()}
    return {rank: pid for pid, found in ranks.items() for rank in found}


def there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_killed_in_part_or_whole_it_leaves_nothing_running_and_ends_in_the_bytes_of_one_process(project):
    project.stage(*STAGE)
    whole = contents(project.folder / OUT)

    one = started(project, 2)
    until(lambda: checkpoints(project), one)
    ranks = children(one)
    os.kill(ranks[1], signal.SIGKILL)
    _, said = one.communicate(timeout=60)
    assert one.returncode == 1
    again = "the same command goes on from the last saved state"
    assert said.splitlines()[-1] == f"train_diffusion text-f4: process 2 of 2 was ended by SIGKILL; {again}"
    assert "Traceback" not in said
    assert not any(map(there, ranks.values()))

    before = checkpoints(project)
    two = started(project, 2)
    until(lambda: checkpoints(project) != before, two)
    ranks = children(two)
    two.kill()
    until(lambda: not any(map(there, ranks.values())), seconds=20)

    three = started(project, 2)
    until(lambda: len(children(three)) == 2, three)
    ranks = children(three)
    three.terminate()
    three.communicate(timeout=60)
    assert three.returncode == 130
    assert not any(map(there, ranks.values()))

    assert checkpoints(project)  # now as a cluster does, which has launchers of its own
    project.run(
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", f"flows.{STAGE[0]}", STAGE[1]
    )
    assert contents(project.folder / OUT) == whole
    assert not (project.folder / ".resume" / STAGE[0] / STAGE[1]).exists()


@pytest.mark.parametrize(
    ("processes", "said"),
    [
        (
            "3",
            "train.micro_batches: 2 cannot be shared by 3 processes, and in exact mode the result depends on it: set",
        ),
        ("two", "LDM_PROCESSES=two: expected how many processes share a stage, such as 2 (a GPU each)"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(processes, said, project):
    done = project.stage(*STAGE, ok=False, LDM_PROCESSES=processes)
    assert done.returncode == 1
    assert done.stderr.startswith(f"train_diffusion text-f4: {said}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("stage", "name", "out", "says"),
    [
        ("sample", "text-f4", "samples/text-f4", "16/16 samples"),
        ("cache_latents", "scenes-pixels", "data/latents/scenes-pixels", "120/120 pictures"),
    ],
)
def test_what_two_processes_make_in_turns_is_what_one_makes(stage, name, out, says, project):
    whole = contents(project.folder / out)
    assert says in project.stage(stage, name, LDM_PROCESSES="2").stderr
    assert contents(project.folder / out) == whole


def test_figures_measured_by_two_processes_are_those_of_one(project):
    project.edit(
        "features: none, perceptual: none, clip: none, figures: [fidelity, paired], batch: 8}\n    sr-f1",
        "features: none, perceptual: none, clip: none, figures: [fidelity, paired, neighbours], batch: 5}\n    sr-f1",
    )
    project.stage("evaluate", "sr-f4")
    whole = contents(project.folder / "metrics")
    for stage, name in (("reference", "scenes-test"), ("evaluate", "sr-f4"), ("evaluate_autoencoder", "kl-f4")):
        measuring = project.start(sys.executable, "-m", f"flows.{stage}", name, LDM_PROCESSES="2")
        until(lambda process=measuring: len(children(process)) == 2, measuring)
        _, said = measuring.communicate(timeout=120)
        assert measuring.returncode == 0, said
    assert contents(project.folder / "metrics") == whole
