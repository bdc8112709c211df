"""`dvc repro` itself: killed, twice at once, beside an orphan of a killed one, in a clone with another's cache."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from functools import partial

from torture.bench import Bench, Fault, Try, address
from torture.project import REPRO, STEPS, Project
from torture.stops import saved

KL = "train_autoencoder"
TARGET = address(KL)
MANY = 400
"""Steps of a training that outlives the start of another `dvc repro`."""


def tries() -> Iterator[Try]:
    yield "a cache restored into a clean clone: nothing to do", _restored
    for apart in (0.0, 1.0, 3.0, 6.0):
        yield "two dvc repro at once", partial(_at_once, apart=apart)
    yield "dvc repro killed four times with its stage", _killed
    yield "an orphan of a killed dvc repro still writing", _orphan


def _restored(bench: Bench, fault: Fault) -> None:
    folder = bench.reference.folder.with_name("clone")
    bench.reference.run("git", "clone", "--quiet", str(bench.reference.folder), str(folder / "project"))
    clone = Project(folder / "project", folder / "home")
    shutil.copytree(bench.reference.folder / ".dvc/cache", clone.folder / ".dvc/cache")
    shutil.rmtree(clone.folder / ".dvc/cache/runs", ignore_errors=True)
    clone.run("python", "-m", "dvc", "checkout")
    code, said = clone.run(*REPRO, ok=False)
    nothing = "Data and pipelines are up to date" in said
    fault.add(code == 0 and nothing, bench.differing(clone), said[-500:])
    shutil.rmtree(folder)


def _stale(bench: Bench, project: Project) -> None:
    """From the first stage with checkpoints on, nothing is there that DVC could take."""
    bench.clear(project, KL)
    shutil.rmtree(project.folder / ".dvc/cache", ignore_errors=True)


def _at_once(bench: Bench, fault: Fault, apart: float) -> None:
    """One goes through; the other waits its turn or says in a line that the first is at work."""
    with bench.copy() as project:
        _stale(bench, project)
        one = project.start(*REPRO, TARGET)
        time.sleep(apart)
        other = project.start(*REPRO, TARGET)
        said = [process.communicate()[0] for process in (one, other)]
        codes = [one.returncode, other.returncode]
        tidy = all("Traceback" not in text for text in said)
        code, last = project.run(*REPRO, TARGET, ok=False)
        promised = 0 in codes and tidy and code == 0
        note = f"{apart} s apart: {codes}: {said[0][-300:]} | {said[1][-300:]} | {last[-200:]}"
        fault.add(promised, bench.differing(project), note)


def _longer(bench: Bench, project: Project) -> None:
    """The training takes many steps, and is to be made."""
    project.edit(
        f"steps: {STEPS}, batch: 4, lr: 2.0e-3, warmup: 5, betas",
        f"steps: {MANY}, batch: 4, lr: 2.0e-3, warmup: 5, betas",
    )
    _stale(bench, project)


def _killed(bench: Bench, fault: Fault) -> None:
    """DVC and its stage together, again and again; then it comes through, as if never killed."""
    with bench.copy() as project, bench.copy() as undisturbed:
        _longer(bench, undisturbed)
        undisturbed.run(*REPRO, TARGET)
        _longer(bench, project)
        struck = 0
        for _ in range(4):
            before = saved(project, KL)
            process = project.start(*REPRO, TARGET)
            while saved(project, KL) == before and process.poll() is None:
                time.sleep(0.01)
            time.sleep(bench.chance.uniform(0, 0.5))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                struck += 1
            process.communicate()
        code, said = project.run(*REPRO, TARGET, ok=False)
        fault.add(code == 0 and struck == 4, bench.differing(project, undisturbed), f"{struck} struck: {said[-1000:]}")


def _orphan(bench: Bench, fault: Fault) -> None:
    """DVC alone is killed. What it started is still writing when the next comes, which says so, and ends."""
    with bench.copy() as undisturbed:
        _longer(bench, undisturbed)
        undisturbed.run(*REPRO, TARGET)
        for _ in range(2):
            with bench.copy() as project:
                _longer(bench, project)
                process = project.start(*REPRO, TARGET)
                while not saved(project, KL) and process.poll() is None:
                    time.sleep(0.001)
                os.kill(process.pid, signal.SIGKILL)
                process.wait()  # as a shell does: DVC takes whoever has an id for alive, and so at work
                code, said = project.run(*REPRO, TARGET, ok=False)
                refused = code != 0 and "it runs here already; wait for it, or end it first: kill" in said
                process.communicate()  # until the orphan has closed its output too
                again, last = project.run(*REPRO, TARGET, ok=False)
                promised = refused and "Traceback" not in said and again == 0
                note = f"{code}: {said[-400:]} | {last[-300:]}"
                fault.add(promised, bench.differing(project, undisturbed), note)
