"""On GPUs, in exact mode: the same bytes again, after kills and from two processes; what is said where memory runs out.

Every stage that computes is a process of its own, `python -m flows.STAGE NAME --plain`, so that neither DVC nor Prefect
has to be there. Where there are two GPUs, two processes share it too, each with one.
"""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flows.inputs import declaration
from torture.bench import STAGES, TRAININGS, Bench, Fault, Try, clear, differing, left_over
from torture.process import PATIENCE
from torture.project import ROOT, SMALLER, Project, contents

DEVICE = "TORTURE_DEVICE"
"""Environment variable: `cpu` tries the same without a GPU, all but what has to do with its memory."""
NEEDED = (
    "ldm", "flows", "dvc.yaml", "constraints-numeric.txt", "presets", "data/raw/none", "data/weights/none",
    "models/autoencoders/none", "models/diffusion/none",
)  # fmt: skip
"""What a stage runs with."""
COMPUTES = (
    "train_autoencoder", "cache_latents", "train_diffusion", "sample", "reference", "evaluate_autoencoder", "evaluate",
)  # fmt: skip
PRECISIONS = ("float32", "bfloat16")
HUGE = 2**21
"""Pictures a step: more than a GPU of today holds."""


@dataclass(frozen=True)
class Made:
    """What a stage wrote, undisturbed: paths in its project."""

    outs: list[str]
    seconds: float


def tries() -> Iterator[Try]:
    cpu = os.environ.get(DEVICE) == "cpu"
    gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))  # not asked of CUDA: processes are forked from this one
    if not (cpu or gpus):
        yield "stages on a GPU", _left_out("this machine has none")
        return
    for precision in PRECISIONS[:1] if cpu else PRECISIONS:
        for stage in COMPUTES:
            yield f"{precision}: again", partial(_again, precision=precision, stage=stage, processes=1)
            yield f"{precision}: SIGKILL at any moment", partial(_killed, precision=precision, stage=stage)
            if cpu or gpus > 1:
                again = partial(_again, precision=precision, stage=stage, processes=2)
                yield f"{precision}: two processes", again
    if gpus == 1:
        yield "two processes", _left_out("there is one GPU")
    if not cpu:
        for stage in TRAININGS:
            yield "a batch that memory does not hold", partial(_too_large, stage=stage)


def _left_out(why: str) -> Callable[[Bench, Fault], None]:
    def attempt(bench: Bench, fault: Fault) -> None:
        fault.left_out = why

    return attempt


def _again(bench: Bench, fault: Fault, precision: str, stage: str, processes: int) -> None:
    with _copy(bench, precision, stage) as (project, made):
        _finish(fault, project, stage, made, f"{processes} at work", processes=processes)


def _killed(bench: Bench, fault: Fault, precision: str, stage: str) -> None:
    with _copy(bench, precision, stage) as (project, made):
        for i in range(bench.kills):
            part, code = (i + bench.chance.random()) / bench.kills, 0
            while code != -signal.SIGKILL:  # it may end before its moment, for no two runs take the same time
                clear(project, made.outs)
                moment = part * made.seconds
                code, _ = _run(project, stage, when=moment)
                part *= 0.95
            _finish(fault, project, stage, made, f"killed after {moment:.1f} s")


def _too_large(bench: Bench, fault: Fault, stage: str) -> None:
    """One line, with the batch that would fit; with the batch as it was the stage ends as ever."""
    with _copy(bench, "float32", stage, lock=fcntl.LOCK_EX) as (project, made):  # others would find no memory either
        fits, asked = "batch: 4, lr", f"batch: {HUGE}, lr"
        project.edit(fits, asked)
        code, said = _run(project, stage)
        line = re.search(rf"batch: {HUGE} does not fit, \d+ does; it is not changed for you", said)
        project.edit(asked, fits)
        promised = code == 1 and line is not None and "Traceback" not in said
        _finish(fault, project, stage, made, f"{code}: {said[-300:]}", promised=promised)


def _finish(
    fault: Fault, project: Project, stage: str, made: Made, note: str, *, promised: bool = True, processes: int = 1
) -> None:
    """Run the stage to its end, and count whether that went well and made what an undisturbed one makes."""
    code, said = _run(project, stage, processes=processes)
    whole = Project(project.folder.parents[1] / "whole", project.home)
    differ = differing(*(contents(one.folder, made.outs) for one in (whole, project)))
    well = code == 0 and not left_over(project)
    last = (said.strip().splitlines() or [""])[-1]
    fault.add(promised and well, differ, f"{stage}: {note}; then {code}: {last}")


@contextmanager
def _copy(bench: Bench, precision: str, stage: str, lock: int = fcntl.LOCK_SH) -> Iterator[tuple[Project, Made]]:
    """Of all stages' undisturbed results but those of `stage`; with the GPU for all, or for this one alone."""
    whole = _undisturbed(bench, precision)
    folder = Path(tempfile.mkdtemp(prefix="copy-", dir=whole.folder.parent))
    gpu = whole.folder.parents[1].joinpath("gpu").open("w")
    try:
        fcntl.flock(gpu, lock)
        shutil.copytree(whole.folder, folder / "project")
        project = Project(folder / "project", folder / "home")
        made = Made(**json.loads((whole.folder / "made.json").read_text())[stage])
        clear(project, made.outs)
        yield project, made
    finally:
        gpu.close()
        shutil.rmtree(folder, ignore_errors=True)


def _undisturbed(bench: Bench, precision: str) -> Project:
    """All stages in turn, by the first process that asks for them; others wait."""
    folder = bench.reference.folder.parent / f"gpu-{precision}"
    folder.mkdir(parents=True, exist_ok=True)
    project = Project(folder / "whole", folder / "home")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (project.folder / "made.json").exists():
            shutil.rmtree(project.folder, ignore_errors=True)
            _make(project, precision)
    return project


def _make(project: Project, precision: str) -> None:
    for name in NEEDED:
        source, target = ROOT / name, project.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    shutil.copy2(project.folder / "presets/smoke.yaml", project.folder / "params.yaml")
    device = os.environ.get(DEVICE, "cuda")
    edits = SMALLER | {
        "device: cpu": f"device: {device}, precision: {precision}",
        "picture_every: 5}": "picture_every: 5, micro_batches: 2}",  # the same for any number of processes
        "dropout: 0.0}": "dropout: 0.1}",
    }
    for old, new in edits.items():
        project.edit(old, new)
    made = {}
    for stage in ("prepare", *COMPUTES):
        began = time.monotonic()
        code, said = _run(project, stage)
        if code:
            raise RuntimeError(f"{stage} {STAGES[stage]}: exit code {code}\n{said[-3000:]}")
        os.chdir(project.folder)
        made[stage] = {"outs": _outs(stage), "seconds": time.monotonic() - began}
    (project.folder / "made.json").write_text(json.dumps(made))


def _outs(stage: str) -> list[str]:
    """Paths that it writes; one with options is a mapping."""
    listed = declaration(stage, STAGES[stage])
    outs = [*listed.get("outs", []), *listed.get("metrics", [])]
    return [next(iter(out)) if isinstance(out, dict) else out for out in outs]


def _run(project: Project, stage: str, *, when: float | None = None, processes: int = 1) -> tuple[int, str]:
    """Exit code and words of a stage in a process of its own, which SIGKILL ends `when` so many seconds have gone."""
    command = sys.executable, "-m", f"flows.{stage}", STAGES[stage], "--plain"
    running = project.start(*command, LDM_PROCESSES=str(processes))
    try:
        said, _ = running.communicate(timeout=PATIENCE if when is None else when)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        said, _ = running.communicate()
    return running.returncode, said
