"""Processes that decode: in order, with the errors of those who ask, and never longer there than who started them."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from operator import truediv

import psutil
import pytest

from ldm.data.batches import ahead
from ldm.data.processes import processes


def test_results_come_in_order_an_error_at_its_item_and_the_pool_is_there_afterwards():
    pool = processes(2)
    assert list(ahead(partial(pow, 2), range(20), 2, pool=pool)) == [2**i for i in range(20)]
    inverse = partial(truediv, 1)
    results = ahead(inverse, [1, 2, 0, 4], 2, pool=pool)
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(ahead(inverse, [4], 2, pool=pool)) == [0.25]


STARTS = """
import os, sys, time
from ldm.data.processes import processes
pool = processes(2)
print(*{pool.submit(os.getpid).result() for _ in range(50)}, *pool._processes, flush=True)
time.sleep(600)
"""


def test_they_end_with_the_process_that_started_them_even_where_it_is_killed():
    with subprocess.Popen([sys.executable, "-c", STARTS], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        pids = {int(pid) for pid in started.stdout.readline().split()}
        assert len(pids) == 2
        assert all(map(psutil.pid_exists, pids))
        os.kill(started.pid, signal.SIGKILL)
    until = time.monotonic() + 30
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
