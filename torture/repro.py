"""`dvc repro` itself: killed, twice at once, beside an orphan of a killed one, in a clone with another's cache."""

import os
import shutil
import signal
import time
from collections.abc import Iterator

from torture.bench import STAGES, Bench, Fault, clear
from torture.project import REPRO, Project
from torture.stops import saved
from torture.surroundings import differing_outputs

KL = "train_autoencoder", STAGES["train_autoencoder"]


def faults(bench: Bench) -> Iterator[Fault]:
    yield _restored(bench)
    yield _at_once(bench)
    yield _killed(bench)
    yield _orphan(bench)


def _restored(bench: Bench) -> Fault:
    fault = Fault(name="a cache restored into a clean clone: nothing to do")
    home = bench.folder / "another home"
    folder = bench.folder / "clone" / "project"
    shutil.rmtree(folder.parent, ignore_errors=True)
    bench.reference.run("git", "clone", "--quiet", str(bench.reference.folder), str(folder))
    clone = Project(folder, home)
    shutil.copytree(bench.reference.folder / ".dvc/cache", clone.folder / ".dvc/cache")
    shutil.rmtree(clone.folder / ".dvc/cache/runs", ignore_errors=True)
    clone.run("python", "-m", "dvc", "checkout")
    code, said = clone.run(*REPRO, ok=False)
    nothing = "Data and pipelines are up to date" in said
    fault.add(code == 0 and nothing, differing_outputs(bench, clone), said[-500:])
    shutil.rmtree(folder.parent)
    return fault


def _stale(project: Project) -> None:
    """From the first stage with checkpoints on, nothing is there that DVC could take."""
    clear(project, *KL)
    shutil.rmtree(project.folder / ".dvc/cache", ignore_errors=True)


TARGET = "@".join(KL)


def _at_once(bench: Bench) -> Fault:
    """One goes through; the other waits its turn or says in a line that the first is at work."""
    fault = Fault(name="two dvc repro at once")
    for delay in (0.0, 1.0, 3.0, 6.0):
        with bench.copy() as project:
            _stale(project)
            one = project.start(*REPRO, TARGET)
            time.sleep(delay)
            other = project.start(*REPRO, TARGET)
            said = [process.communicate()[0] for process in (one, other)]
            codes = [one.returncode, other.returncode]
            tidy = all("Traceback" not in text for text in said)
            code, last = project.run(*REPRO, TARGET, ok=False)
            promised = 0 in codes and tidy and code == 0
            note = f"{delay} s apart: {codes}: {said[0][-300:]} | {said[1][-300:]} | {last[-200:]}"
            fault.add(promised, bench.differing(project, *KL) or differing_outputs(bench, project), note)
    return fault


def _killed(bench: Bench) -> Fault:
    """DVC and its stage together, again and again until one comes through."""
    fault = Fault(name="dvc repro killed with its stage")
    with bench.copy() as project:
        _stale(project)
        for _ in range(4):
            before = saved(project, *KL)
            process = project.start(*REPRO, TARGET)
            until = time.monotonic() + 60
            while saved(project, *KL) == before and process.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(bench.chance.uniform(0, 0.5))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        code, said = project.run(*REPRO, TARGET, ok=False)
        fault.add(code == 0, bench.differing(project, *KL) or differing_outputs(bench, project), said[-1000:])
    return fault


def _orphan(bench: Bench) -> Fault:
    """DVC alone is killed. What it started is still writing when the next comes, which says so, and ends."""
    fault = Fault(name="an orphan of a killed dvc repro still writing")
    for _ in range(3):
        with bench.copy() as project:
            _stale(project)
            process = project.start(*REPRO, TARGET)
            while not saved(project, *KL) and process.poll() is None:
                time.sleep(0.001)
            os.kill(process.pid, signal.SIGKILL)
            code, said = project.run(*REPRO, TARGET, ok=False)
            refused = code != 0 and "it runs here already; wait for it, or end it first: kill" in said
            process.communicate()  # until the orphan has closed its output too
            again, last = project.run(*REPRO, TARGET, ok=False)
            promised = (refused or code == 0) and "Traceback" not in said and again == 0
            fault.add(
                promised,
                bench.differing(project, *KL) or differing_outputs(bench, project),
                f"{code}: {said[-400:]} | {last[-300:]}",
            )
    return fault
