"""Bits that flip on the disk: in the state of an interrupted stage, and in what a stage reads."""

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from flows.inputs import declaration
from ldm.files import MANIFEST
from torture.bench import STAGES, TRAININGS, Bench, Fault, clear
from torture.process import run
from torture.project import Project
from torture.stops import saved

SPOILT: dict[str, Callable[[bytes, int], bytes]] = {
    "a flipped bit": lambda content, at: content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :],
    "its end cut off": lambda content, at: content[:at],
    "nothing in it": lambda content, at: b"",
}
READ = re.compile(r"(parquet|arrow|safetensors)$")
"""Files whose content enters a result; the manifest of a folder holds their hashes."""


def faults(bench: Bench) -> Iterator[Fault]:
    yield _checkpoints(bench)
    yield _batches(bench)
    yield from _inputs(bench)


def _checkpoints(bench: Bench) -> Fault:
    """The newest of two is spoilt: it is named, and the training goes on from the one before."""
    fault = Fault(name="a damaged checkpoint")
    for stage in TRAININGS:
        name = STAGES[stage]
        with bench.copy() as project:
            for how, spoil in SPOILT.items():
                for kind in (".pt", ".json"):
                    clear(project, stage, name)
                    two = lambda: len(saved(project, stage, name)) == 2  # noqa: B023, E731 -- within the loop
                    ended = run(project.folder, stage, name, when=two)
                    newest = max((project.folder / ".resume" / stage / name).glob(f"*/step-*{kind}"))
                    _spoil(bench, newest, spoil)
                    again = run(project.folder, stage, name, when=lambda: False)
                    named = f"{newest.stem}.pt is damaged; going back to the checkpoint before it" in again.said
                    promised = ended.code == -signal.SIGKILL and named and again.code == 0
                    fault.add(
                        promised, bench.differing(project, stage, name), f"{newest.name}, {how}: {again.said[-300:]}"
                    )
    return fault


def _batches(bench: Bench) -> Fault:
    """A kept part of pictures is rendered again, a kept batch of samples drawn, a kept file of latents encoded."""
    fault = Fault(name="damaged kept parts, batches and latents")
    for stage, kept in (
        ("prepare", "*/part-*.arrow"),
        ("sample", "*/batch-*.safetensors"),
        ("cache_latents", "*/latents/*.arrow"),
    ):
        name = STAGES[stage]
        with bench.copy() as project:
            for how, spoil in SPOILT.items():
                clear(project, stage, name)
                state = project.folder / ".resume" / stage / name
                run(project.folder, stage, name, when=lambda: any(state.glob(kept)))  # noqa: B023 -- within the loop
                _spoil(bench, min(state.glob(kept)), spoil)
                bench.finish(fault, project, stage, name, True, f"{kept}, {how}")
    return fault


def _inputs(bench: Bench) -> Iterator[Fault]:
    """A stage that reads a spoilt file names it and ends; one that does not read it makes what it always makes."""
    for stage in STAGES:
        if stage == "prepare":
            continue
        name = STAGES[stage]
        fault = Fault(name=f"damaged input of {stage}")
        with bench.copy() as project:
            for path in _files(project, stage, name):
                content = path.read_bytes()
                for how, spoil in SPOILT.items():
                    clear(project, stage, name)
                    _spoil(bench, path, spoil)
                    ended = run(project.folder, stage, name)
                    named = (
                        ended.code == 1 and ended.tidy and str(path.relative_to(project.folder).parent) in ended.last
                    )
                    unread = ended.code == 0 and not bench.differing(project, stage, name)
                    path.write_bytes(content)
                    where = path.relative_to(project.folder)
                    bench.finish(
                        fault,
                        project,
                        stage,
                        name,
                        named or unread,
                        f"{where}, {how}: {ended.code}: {ended.said[-300:]}",
                    )
        if fault.tried:
            yield fault


def _files(project: Project, stage: str, name: str) -> list[Path]:
    folders = [project.folder / dep for dep in declaration(stage, name)["deps"]]
    found = [file for folder in folders if folder.is_dir() for file in sorted(folder.rglob("*"))]
    return [file for file in found if READ.search(file.name) and (file.parent / MANIFEST).exists()]


def _spoil(bench: Bench, path: Path, spoil: Callable[[bytes, int], bytes]) -> None:
    content = path.read_bytes()
    path.write_bytes(spoil(content, bench.chance.randrange(len(content) // 4, 3 * len(content) // 4)))
