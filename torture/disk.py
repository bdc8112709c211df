"""A disk that is full, one that may not be written to, and a raw folder that goes away.

Needs the right to mount a tmpfs; without it nothing is tried, and the table says so.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from torture.bench import STAGES, Bench, Fault, clear, promised_line
from torture.process import Ended, run
from torture.project import Project, contents, outputs

LARGE = 64 * 1024
"""Kilobytes of a disk with room."""
PARTS = (0.0, 0.3, 0.7, 0.95)
"""Of the room that a stage needs, which is there."""
KEEP_STATES = ("prepare", "train_autoencoder", "cache_latents", "train_diffusion", "sample")
MOMENTS = 12
"""At which a raw folder vanishes."""
DATASET = (
    "datasets:\n  mine: {raw: data/raw/mine, source: {kind: folder, given_splits: false, licence: mine},"
    " size: 16, validation: 0.2, test: 0.2, on_bad_image: stop}\n"
)
Remount = Callable[[str], object]


def faults(bench: Bench) -> Iterator[Fault]:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        yield Fault(name="disks: left out, for none can be mounted here")
        return
    full, read_only = Fault(name="full disk"), Fault(name="read-only folder")
    for stage, name in STAGES.items():
        with bench.copy() as project:
            _outputs(bench, project, stage, name, full, read_only)
    yield full
    yield read_only
    fault = Fault(name="full disk where states are kept")
    for stage in KEEP_STATES:
        with bench.copy() as project:
            _states(bench, project, stage, STAGES[stage], fault)
    yield fault
    with bench.copy() as project:
        yield _vanished(bench, project)


def pictures(bench: Bench, raw: Path, count: int) -> None:
    raw.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.frombytes("RGB", (48, 40), bench.chance.randbytes(48 * 40 * 3)).save(raw / f"{i:03}.png")


def _outputs(bench: Bench, project: Project, stage: str, name: str, full: Fault, read_only: Fault) -> None:
    """On a disk of its own is the folder of the stage's outputs; of the report, the whole project."""
    place = (project.folder / outputs(stage, name)[0]).parent
    clear(project, stage, name)
    made = contents(bench.reference.folder, outputs(stage, name))
    need = sum(len(content) for content in made.values()) / 1024
    with _disk(place) as remount:
        used = shutil.disk_usage(place).used // 1024
        for part in PARTS:
            remount(f"size={used + max(4, int(need * part))}k")
            ended = run(project.folder, stage, name)
            remount(f"size={LARGE}k")
            promised = _said_full(ended) or (ended.code == 0 and not bench.differing(project, stage, name))  # it fitted
            note = f"{part:.0%} of {need:.0f} kB free: {ended.code}: {ended.said[-300:]}"
            bench.finish(full, project, stage, name, promised, note)
            clear(project, stage, name)
        remount("ro")
        ended = run(project.folder, stage, name)
        remount("rw")
        promised = promised_line(ended) and "Read-only file system" in ended.last
        bench.finish(read_only, project, stage, name, promised, f"{ended.code}: {ended.said[-300:]}")


def _states(bench: Bench, project: Project, stage: str, name: str, fault: Fault) -> None:
    clear(project, stage, name)
    with _disk(project.folder / ".resume") as remount:
        for room in (16, 64, 256):
            remount(f"size={room}k")
            ended = run(project.folder, stage, name)
            remount(f"size={LARGE}k")
            promised = _said_full(ended) or (ended.code == 0 and not bench.differing(project, stage, name))
            bench.finish(fault, project, stage, name, promised, f"{room} kB free: {ended.code}: {ended.said[-300:]}")
            for state in (project.folder / ".resume").iterdir():
                shutil.rmtree(state)


def _said_full(ended: Ended) -> bool:
    return promised_line(ended) and "disk full: no space left for" in ended.last


def _vanished(bench: Bench, project: Project) -> Fault:
    """The raw folder's disk goes away, before the stage or at any moment of it, and comes back."""
    fault = Fault(name="raw folder vanishes")
    kept, raw, out = project.folder / "kept", project.folder / "data/raw/mine", ["data/prepared/mine"]
    pictures(bench, kept, 60)
    raw.mkdir()
    project.edit("datasets:\n", DATASET)
    _mount("--bind", kept, raw)
    took = run(project.folder, "prepare", "mine").seconds
    before = contents(project.folder, out)
    for i in range(MOMENTS):
        clear(project, "prepare", "mine")
        moment = took * i / MOMENTS
        away = subprocess.Popen(["sh", "-c", 'sleep "$0"; exec umount --lazy "$1"', f"{moment:.3f}", raw])
        if not i:
            away.wait()
        ended = run(project.folder, "prepare", "mine")
        away.wait()
        promised = promised_line(ended) and "data/raw/mine" in ended.last
        promised |= ended.code == 0 and contents(project.folder, out) == before
        _mount("--bind", kept, raw)
        again, after = run(project.folder, "prepare", "mine"), contents(project.folder, out)
        differing = [path for path in before | after if before.get(path) != after.get(path)]
        fault.add(promised and again.code == 0, differing, f"after {moment:.2f} s: {ended.code}: {ended.said[-300:]}")
    subprocess.run(["umount", "--lazy", raw], check=True)
    return fault


@contextmanager
def _disk(folder: Path) -> Iterator[Remount]:
    """A disk in the place of `folder`, with what is in it; yields what changes its options."""
    folder.mkdir(parents=True, exist_ok=True)
    held = contents(folder, ["."])
    _mount("-t", "tmpfs", "-o", f"size={LARGE}k", "tmpfs", folder)
    try:
        for path, content in held.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        yield lambda options: _mount("-o", f"remount,{options}", folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _mount(*options: str | Path) -> None:
    subprocess.run(["mount", *options], check=True)
