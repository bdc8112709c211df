"""Run small stages in a folder of their own, and watch what they take.

As a program it is the process of one stage: `python -m flows.rehearsal STAGE NAME`, in that folder, notes each record
of the stage as a line of JSON in RECORDS.
"""

import copy
import importlib
import itertools
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from flows.shrunk import Shrunk
from flows.stage import explain, mendable
from ldm.config import load
from ldm.files import write_json

RECORDS = Path("records.jsonl")
LINKED = ("ldm", "flows", "dvc.yaml", "constraints-numeric.txt", "data/raw", "data/weights")
NONE = ("models/autoencoders/none", "models/diffusion/none")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a small stage took. Times are in seconds, sizes in bytes."""

    ended: bool
    """False: it was stopped for it took too long; what is known is what came before."""
    process: float
    """What its process took to start, until the stage was imported, and to end."""
    first: float
    """From there to the first record of something done: reading, building, and the first unit."""
    units: tuple[float, ...]
    """What each later unit took: a training step, a batch."""
    tail: float
    """From the last of them to the stage's end: a last look, writing."""
    done: int
    total: int
    """Units as the stage counts them, at its last record."""
    memory: int
    gpu_memory: int
    output: int
    scratch: int

    @property
    def rest(self) -> float:
        """All but the process."""
        return self.first + sum(self.units) + self.tail

    def unit(self, begin: int = 0, end: int | None = None) -> float:
        """The usual time of those units; where none was seen, of the first, which took longer."""
        seen = self.units[begin:end] or self.units
        return median(seen) if seen else self.first


class Rehearsal:
    """A folder in which the rows of `small` are run, each at most once and after what it needs."""

    def __init__(self, folder: Path, small: Shrunk, limit: float) -> None:
        """`limit`: seconds after which a stage is stopped."""
        self._folder, self._small, self._limit = folder, small, limit
        self._measured: dict[str, Measured] = {}
        self._unmade: dict[str, str] = {}
        """Why a row's outputs are not there for others, in words."""

    def measure(self, name: str) -> Measured:
        """Raises ValueError where the stage refuses, does not fit in memory, or lacks what another did not make."""
        if name not in self._measured:
            stage, row = self._small.made[name]
            if name not in self._unmade:
                try:
                    self._measured[name] = self._made(name, stage, row)
                except ValueError as error:
                    self._unmade[name] = f"{stage}: {error}"
            if name not in self._measured:
                raise ValueError(self._unmade[name])
        return self._measured[name]

    def _made(self, name: str, stage: str, row: dict[str, Any]) -> Measured:
        for needed in [value for value in row.values() if isinstance(value, str) and value in self._small.made]:
            self.measure(needed)
            if needed in self._unmade:
                raise ValueError(f"it needs {self._unmade[needed]}")
        measured = self._run(stage, name, self._small.params)
        if measured.ended:
            return measured
        if "train" in row:  # what it makes is wanted all the same
            again = self._run(stage, name, _one_step(self._small.params, name))
            if again.ended:
                memory = max(measured.memory, again.memory)
                return replace(measured, tail=again.tail, memory=memory, output=again.output, scratch=again.scratch)
        self._unmade[name] = f"{stage}, which takes more than {self._limit:g} seconds even when small"
        return measured

    def _run(self, stage: str, name: str, params: dict[str, Any]) -> Measured:
        write_json(self._folder / "params.yaml", params)  # JSON is YAML too
        self._link()
        records = self._folder / RECORDS
        records.unlink(missing_ok=True)
        began = time.monotonic()
        with (self._folder / "said").open("w+") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.rehearsal", stage, name],
                cwd=self._folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip
            try:
                code = process.wait(self._limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                process.kill()  # does nothing where it has ended
                process.wait()
            took = time.monotonic() - began
            said.seek(0)
            last = (said.read().strip().splitlines() or [""])[-1]
        if code:
            raise ValueError(last if code > 0 else f"ended by signal {-code}; does it fit in memory?")
        lines = [json.loads(line) for line in records.read_text().splitlines()] if records.is_file() else []
        output = sum(size_of(self._folder / out) for out in _outputs(stage, name))
        return _measured(lines, began, took, code is not None, output)

    def _link(self) -> None:
        for name in (*LINKED, *NONE, *self._small.linked):
            place = self._folder / name
            if Path(name).exists() and not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(Path(name).absolute())


def _measured(lines: Sequence[dict[str, Any]], began: float, took: float, ended: bool, output: int) -> Measured:
    """From the lines that its process noted: one where the stage began, one a record, one at its end."""
    ready = lines[0]["at"] if lines else began + took
    end = lines[-1]["at"] if ended else began + took
    at, done = [ready], [0]
    for line in lines:
        if line["done"] > done[-1]:
            at.append(line["at"])
            done.append(line["done"])
    times = [after - before for before, after in itertools.pairwise(at)]
    return Measured(
        ended=ended,
        process=took - (end - ready),
        first=times[0] if times else end - ready,
        units=tuple(times[1:]),
        tail=end - at[-1] if times else 0.0,
        done=done[-1],
        total=max((line["total"] for line in lines), default=0),
        memory=max((line["memory"] for line in lines), default=0),
        gpu_memory=max((line["gpu"] for line in lines), default=0),
        output=output,
        scratch=max((line["scratch"] for line in lines), default=0),
    )


def _outputs(stage: str, name: str) -> list[str]:
    entry = load("dvc.yaml")["stages"][stage]["do"]
    listed = [*entry.get("outs", []), *entry.get("metrics", [])]
    return [path.replace("${key}", name) for out in listed for path in (out if isinstance(out, dict) else [out])]


def _one_step(params: dict[str, Any], name: str) -> dict[str, Any]:
    """`params` with one step in the training `name`."""
    few = copy.deepcopy(params)
    for table in ("autoencoders", "diffusion"):
        if name in few.get(table, {}):
            few[table][name]["train"] |= {"steps": 1, "save_every": 1, "picture_every": 1}
    return few


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_dir():
        return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
    return path.lstat().st_size if path.exists() else 0


def available_memory() -> int:
    """Bytes that a new process can have, in the container where there is one."""
    group = Path("/sys/fs/cgroup")
    free = psutil.virtual_memory().available
    try:
        return min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return free


def _peak_memory() -> int:
    """Of this process alone: what the system counts as used (ru_maxrss) begins with that of the one that started it."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
    return 1024 * int(kilobytes)


def main() -> int:
    stage, name = sys.argv[1:]
    device, free = load()["run"]["device"], available_memory()
    if device == "cpu" and sys.platform == "linux":  # refused at its limit, it does not take memory from others
        resource.setrlimit(resource.RLIMIT_DATA, (free, resource.RLIM_INFINITY))
    try:
        _note_records(stage, name)
    except (MemoryError, RuntimeError) as error:
        if "memory" not in str(error):
            raise
        where = "on the GPU" if "CUDA" in str(error) else f"in the {free / 1e9:.3g} GB that are free here"
        print(f"does not fit {where} with this batch", file=sys.stderr)
        return 1
    except Exception as error:
        if not mendable(error):
            raise
        print(explain(error), file=sys.stderr)
        return 1
    return 0


def _note_records(stage: str, name: str) -> None:
    flow = importlib.import_module(f"flows.{stage}")
    import torch  # a stage has set its instructions by now

    cuda = torch.cuda.is_available()
    with RECORDS.open("w", buffering=1) as notes:

        def note(done: int, total: int) -> None:
            if cuda:
                torch.cuda.synchronize()
            line = {
                "at": time.monotonic(),
                "processor": time.process_time(),
                "done": done,
                "total": total,
                "memory": _peak_memory(),
                "scratch": size_of(Path(".resume", stage, name)),
                "gpu": torch.cuda.max_memory_reserved() if cuda else 0,
            }
            print(json.dumps(line), file=notes)

        note(0, 0)
        for record in flow.stage(name):
            note(record.done, record.total)
        note(0, 0)


if __name__ == "__main__":
    sys.exit(main())
