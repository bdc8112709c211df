"""A stage that does not fit in a GPU's memory says in one line which batch would, and changes nothing."""

import pytest
import torch

from flows.memory import halves, out_of_memory
from tests.flows.copies import copied

SMALL = 'torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")'


@pytest.fixture
def project(rebuilt, tmp_path):
    return copied(rebuilt, tmp_path / "project")


def with_room_for(project, rows: int) -> None:
    """As on a GPU that holds so many rows of a training step: torch's own error where there are more."""
    project.edit(
        "        with precision(run):\n            losses = diffusion_loss(",
        f"        if t.batch > {rows}:\n            raise {SMALL}\n"
        "        with precision(run):\n            losses = diffusion_loss(",
        "ldm/diffusion/train.py",
    )


def test_which_batch_fits_is_found_by_trying_and_said_in_a_line(project):
    with_room_for(project, 2)
    before = (project.folder / "params.yaml").read_text()
    done = project.stage("train_diffusion", "sr-f1", ok=False)
    said = "train_diffusion sr-f1: out of GPU memory: params.yaml: diffusion.sr-f1.train.batch: 8 does not fit"
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{said}; trying 4",
        f"{said}; trying 2",
        f"{said}, 2 does; it is not changed for you, for another batch gives another result",
    ]
    assert (project.folder / "params.yaml").read_text() == before


def test_an_error_on_top_of_it_is_known_too():
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    on_top = RuntimeError("while capturing")
    on_top.__context__ = torch.OutOfMemoryError("CUDA out of memory")
    assert out_of_memory(on_top)
    assert not out_of_memory(RuntimeError("CUDA error: an illegal memory access"))


def test_each_batch_is_half_the_one_before():
    assert list(halves(12)) == [6, 3, 1]
    assert list(halves(1)) == []
