"""A disk that is full, one that may not be written to, and a raw folder that goes away.

Needs the right to mount a tmpfs; without it nothing is tried, and the table says so.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from PIL import Image

from torture.bench import STAGES, Bench, Fault, Try, clear, differing, promised_line
from torture.process import Ended, run
from torture.project import Project, contents

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
MINE = ["data/prepared/mine"]
"""What the stage `prepare` of it writes."""
Remount = Callable[[str], object]


def tries() -> Iterator[Try]:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        yield "disks", _none_here
        return
    for stage in STAGES:
        yield "full disk", partial(_full, stage=stage)
        yield "read-only folder", partial(_read_only, stage=stage)
    for stage in KEEP_STATES:
        yield "full disk where states are kept", partial(_states, stage=stage)
    yield "raw folder vanishes", _vanished


def _none_here(bench: Bench, fault: Fault) -> None:
    fault.left_out = "none can be mounted here"


def pictures(bench: Bench, raw: Path, count: int) -> None:
    raw.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.frombytes("RGB", (48, 40), bench.chance.randbytes(48 * 40 * 3)).save(raw / f"{i:03}.png")


def _full(bench: Bench, fault: Fault, stage: str) -> None:
    with bench.copy(fault) as project, _disk_of(bench, project, stage) as (place, remount):
        need = sum(map(len, contents(bench.reference.folder, bench.outputs(stage)).values())) / 1024
        used = shutil.disk_usage(place).used // 1024
        for part in PARTS:
            bench.clear(project, stage)
            remount(f"size={used + max(4, int(need * part))}k")
            ended = run(project.folder, stage, STAGES[stage])
            remount(f"size={LARGE}k")
            promised = _said_full(ended) or (ended.code == 0 and not bench.differing(project))  # it fitted
            note = f"{part:.0%} of {need:.0f} kB free: {ended.code}: {ended.said[-300:]}"
            bench.finish(fault, project, stage, promised, note)


def _read_only(bench: Bench, fault: Fault, stage: str) -> None:
    with bench.copy(fault) as project, _disk_of(bench, project, stage) as (_, remount):
        remount("ro")
        ended = run(project.folder, stage, STAGES[stage])
        remount("rw")
        promised = promised_line(ended) and "Read-only file system" in ended.last
        bench.finish(fault, project, stage, promised, f"{ended.code}: {ended.said[-300:]}")


@contextmanager
def _disk_of(bench: Bench, project: Project, stage: str) -> Iterator[tuple[Path, Remount]]:
    """A disk for the folder of the stage's outputs, cleared; of the report, for the whole project."""
    place = (project.folder / bench.outputs(stage)[0]).parent
    bench.clear(project, stage)
    with _disk(place) as remount:
        yield place, remount


def _states(bench: Bench, fault: Fault, stage: str) -> None:
    with bench.copy(fault) as project:
        bench.clear(project, stage)
        with _disk(project.folder / ".resume") as remount:
            for room in (16, 64, 256):
                remount(f"size={room}k")
                ended = run(project.folder, stage, STAGES[stage])
                remount(f"size={LARGE}k")
                promised = _said_full(ended) or (ended.code == 0 and not bench.differing(project))
                bench.finish(fault, project, stage, promised, f"{room} kB free: {ended.code}: {ended.said[-300:]}")
                for state in (project.folder / ".resume").iterdir():
                    shutil.rmtree(state)


def _said_full(ended: Ended) -> bool:
    return promised_line(ended) and "disk full: no space left for" in ended.last


def _vanished(bench: Bench, fault: Fault) -> None:
    """The raw folder's disk goes away, before the stage or at any moment of it, and comes back."""
    with bench.copy() as project:
        kept, raw = project.folder / "kept", project.folder / "data/raw/mine"
        pictures(bench, kept, 60)
        raw.mkdir()
        project.edit("datasets:\n", DATASET)
        _mount("--bind", kept, raw)
        took = run(project.folder, "prepare", "mine").seconds
        before = contents(project.folder, MINE)
        for i in range(MOMENTS):
            clear(project, MINE)
            moment = took * i / MOMENTS
            away = subprocess.Popen(["sh", "-c", 'sleep "$0"; exec umount --lazy "$1"', f"{moment:.3f}", raw])
            if not i:
                away.wait()
            ended = run(project.folder, "prepare", "mine")
            away.wait()
            promised = promised_line(ended) and "data/raw/mine" in ended.last
            promised |= ended.code == 0 and contents(project.folder, MINE) == before
            _mount("--bind", kept, raw)
            again = run(project.folder, "prepare", "mine")
            note = f"after {moment:.2f} s: {ended.code}: {ended.said[-300:]}"
            fault.add(promised and again.code == 0, differing(before, contents(project.folder, MINE)), note)
        subprocess.run(["umount", "--lazy", raw], check=True)


@contextmanager
def _disk(folder: Path) -> Iterator[Remount]:
    """A disk in the place of `folder`, with what is in it; yields what changes its options."""
    folder.mkdir(parents=True, exist_ok=True)
    held = contents(folder, ["."])
    _mount("-t", "tmpfs", "-o", f"size={LARGE}k", "tmpfs", folder)
    try:
        _put(folder, held)
        yield lambda options: _mount("-o", f"remount,{options}", folder)
        held = contents(folder, ["."])
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
    _put(folder, held)


def _put(folder: Path, held: dict[str, bytes]) -> None:
    for name, content in held.items():
        place = folder / name
        if not place.exists() or place.read_bytes() != content:  # files of the cache are other copies' too
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)


def _mount(*options: str | Path) -> None:
    subprocess.run(["mount", *options], check=True)
