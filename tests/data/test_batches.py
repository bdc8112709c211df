"""The order of training: a pure function of (seed, step)."""

import threading
import time
from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ldm.data.batches import ahead, batches, indices, mixed, workers


@given(seed=st.integers(0, 2**31), size=st.integers(1, 40), batch=st.integers(1, 50), epochs=st.integers(1, 3))
def test_each_epoch_holds_every_example_once(seed, size, batch, epochs):
    steps = -(-size * epochs // batch)
    stream = torch.cat([indices(seed, step, batch, size) for step in range(steps)])
    for epoch in range(epochs):
        assert sorted(stream[epoch * size : (epoch + 1) * size].tolist()) == list(range(size))


def test_every_step_has_a_whole_batch_even_where_it_is_larger_than_the_split():
    assert indices(0, 3, 10, 4).shape == (10,)
    with pytest.raises(ValueError, match="no examples"):
        indices(0, 0, 1, 0)


def test_epochs_and_seeds_differ():
    first, second, other = indices(1, 0, 100, 100), indices(1, 1, 100, 100), indices(2, 0, 100, 100)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_what_is_shown_of_sorted_classes_has_all_of_them_and_fewer_are_the_first_of_more():
    classes = torch.arange(10).repeat_interleave(100)
    assert classes[mixed(100, 1000)].bincount(minlength=10).min() > 0
    assert torch.equal(mixed(7, 1000), mixed(100, 1000)[:7])
    assert sorted(mixed(2000, 1000).tolist()) == sorted([*range(1000)] * 2)


def test_golden_order():
    assert indices(4, 1, 8, 10).tolist() == [7, 3, 4, 0, 7, 2, 5, 3]


def read(rows: torch.Tensor) -> list[int]:
    time.sleep(0.0005 * (int(rows[0]) % 3))  # threads finish out of order
    return rows.tolist()


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_workers_change_nothing(count):
    expected = [indices(3, step, 4, 10).tolist() for step in range(30)]
    assert list(batches(read, 3, 0, 30, 4, 10, count)) == expected


def test_a_run_that_goes_on_sees_what_an_uninterrupted_one_sees():
    whole = list(batches(read, 3, 0, 20, 4, 10, 1))
    assert list(batches(read, 3, 0, 7, 4, 10, 1)) + list(batches(read, 3, 7, 20, 4, 10, 2)) == whole
    assert list(batches(read, 3, 9, 9, 4, 10, 1)) == []


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_error_is_raised_at_its_item(count):
    def call(item: int) -> int:
        if item == 4:
            raise ValueError("item four")
        return item

    results = ahead(call, range(10), count)
    assert list(islice(results, 4)) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="item four"):
        next(results)


def test_it_reads_only_so_far_ahead_and_stops_when_closed():
    seen: list[int] = []
    results = ahead(seen.append, range(1000), 2)
    next(results)
    time.sleep(0.05)
    assert len(seen) <= 4
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


@pytest.mark.parametrize(("count", "depth"), [(1, 5), (3, 1)])
def test_how_far_it_reads_ahead_changes_nothing(count, depth):
    seen: list[int] = []

    def call(item: int) -> int:
        seen.append(item)
        return item

    results = ahead(call, range(30), count, depth)
    assert next(results) == 0
    time.sleep(0.05)
    assert len(seen) <= depth
    assert list(results) == list(range(1, 30))


def test_what_is_ready_does_not_wait_for_what_is_read_ahead():
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(30):
            time.sleep(0.01)
            taken.append(item)
            yield item

    assert next(ahead(lambda item: item, items(), 1, 20)) == 0
    assert len(taken) < 20


def test_one_can_be_the_items_of_another():
    """A line of workers: what the second does runs beside the first, in order."""
    squares = ahead(lambda item: item**2, range(20), 3)
    assert list(ahead(lambda item: -item, squares, 1, 4)) == [-(item**2) for item in range(20)]


def test_the_environment_gives_the_workers(monkeypatch):
    monkeypatch.delenv("LDM_WORKERS", raising=False)
    assert (workers(), workers(8)) == (1, 8)
    monkeypatch.setenv("LDM_WORKERS", "3")
    assert (workers(), workers(8)) == (3, 3)
    monkeypatch.setenv("LDM_WORKERS", "many")
    with pytest.raises(ValueError, match="LDM_WORKERS=many: expected how many"):
        workers()
