"""Batches shared by real processes: what each of them gets is what one alone gets, whatever their numbers."""

from pathlib import Path

import pytest
import torch

from ldm.data.pictures import low_resolution
from ldm.data.shards import Images
from ldm.evaluation.config import Reference
from ldm.evaluation.reference import reference
from ldm.evaluation.shared import shared
from ldm.training.several import Processes
from tests.clips import write_clip
from tests.evaluation.several import COUNTS, computed, measured, together


def listed(pairs) -> list:
    return [(batch, {name: tensor.tolist() for name, tensor in found.items()}) for batch, found in pairs]


def test_alone_it_is_a_plain_map_one_batch_at_a_time():
    batches = iter(range(5))
    given = shared(batches, computed, Processes(torch.device("cpu")))
    for number, pair in enumerate(given):
        assert listed([pair]) == listed([(number, computed(number))])
        if number == 2:
            break
    assert next(batches) == 3


@pytest.fixture(scope="module")
def three(run, scenes, none, sampled, tmp_path_factory) -> Path:
    """What three processes made of batches of numbers, and of samples with all that figures ask for."""
    folder = tmp_path_factory.mktemp("three")
    (folder / "scenes").symlink_to(scenes)
    (folder / "none").symlink_to(none)
    write_clip(folder / "clip")
    config = Reference(dataset="scenes", split="test", features="none", batch=5)
    list(reference(config, run, scenes, none, folder / "reference"))
    real = Images(scenes, "test")
    pictures = [real.pixels(index) for index in range(len(real))]
    masks = torch.zeros(len(real), *pictures[0].shape[1:], dtype=torch.uint8)
    for number, mask in enumerate(masks):
        mask[: number // 3 + 2] = 1
    sampled(
        folder / "samples",
        real.ids,
        [picture.flip(1) for picture in pictures],
        captions=[real.example(index).caption for index in range(len(real))],
        low=[low_resolution(picture, 4) for picture in pictures],
        masks=masks,
        channels="mask",
    )
    together(1, folder)  # a process of its own too: a library chooses its code by how it is loaded
    (folder / "several.json").rename(folder / "one.json")
    together(3, folder)
    return folder


def test_each_process_has_all_in_order_and_computes_every_third(three):
    for rank in range(3):
        saved = torch.load(three / str(rank))
        assert [listed(got) for got in saved["got"]] == [
            listed((batch, computed(batch)) for batch in range(count)) for count in COUNTS
        ]
        assert saved["asked"] == [batch for count in COUNTS for batch in range(rank, count, 3)]


def test_every_figure_is_the_same_from_three_processes(three, tmp_path):
    """Of five batches, the last one ragged."""
    assert [progress.done for progress in measured(three, tmp_path / "here.json")] == [5, 10, 15, 20, 24]
    assert (three / "several.json").read_bytes() == (three / "one.json").read_bytes()
