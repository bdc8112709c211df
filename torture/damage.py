"""Bits that flip on the disk: in the state of an interrupted stage, and in what a stage reads."""

import re
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ldm.files import MANIFEST
from torture.bench import STAGES, TRAININGS, Bench, Fault, Try
from torture.process import run
from torture.project import Project
from torture.stops import saved

SPOILT: dict[str, Callable[[bytes, int], bytes]] = {
    "a flipped bit": lambda content, at: content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :],
    "its end cut off": lambda content, at: content[:at],
    "nothing in it": lambda content, at: b"",
}
READ = re.compile(r"(parquet|arrow|safetensors|json)$")
"""Files whose content enters a result; the manifest of a folder holds their hashes."""


KEPT = {"prepare": "*/part-*.arrow", "sample": "*/batch-*.safetensors", "cache_latents": "*/latents/*.arrow"}
"""What a stage keeps of what it did, in its folder of states."""


def tries() -> Iterator[Try]:
    for stage in TRAININGS:
        yield "a damaged checkpoint", partial(_checkpoint, stage=stage)
    for stage in KEPT:
        yield "damaged kept parts, batches and latents", partial(_kept, stage=stage)
    for stage in STAGES:
        if stage != "prepare":
            yield "damaged input", partial(_input, stage=stage)


def _checkpoint(bench: Bench, fault: Fault, stage: str) -> None:
    """The newest of two is spoilt: it is named, and the training goes on from the one before."""
    name = STAGES[stage]
    with bench.copy(fault) as project:
        for how, spoil in SPOILT.items():
            for kind in (".pt", ".json"):
                bench.clear(project, stage)
                ended = run(project.folder, stage, name, when=lambda: len(saved(project, stage)) == 2)
                newest = max((project.folder / ".resume" / stage / name).glob(f"*/step-*{kind}"))
                _spoil(bench, newest, spoil)
                again = run(project.folder, stage, name)
                named = f"{newest.stem}.pt is damaged; going back to the checkpoint before it" in again.said
                promised = ended.code == -signal.SIGKILL and named and again.code == 0
                fault.add(promised, bench.differing(project), f"{newest.name}, {how}: {again.said[-300:]}")


def _kept(bench: Bench, fault: Fault, stage: str) -> None:
    """A kept batch of samples is drawn again, a kept file of latents encoded again."""
    name = STAGES[stage]
    with bench.copy(fault) as project:
        state = project.folder / ".resume" / stage / name
        for how, spoil in SPOILT.items():
            bench.clear(project, stage)
            run(project.folder, stage, name, when=lambda: any(state.glob(KEPT[stage])))
            _spoil(bench, min(state.glob(KEPT[stage])), spoil)
            bench.finish(fault, project, stage, True, f"{KEPT[stage]}, {how}")


def _input(bench: Bench, fault: Fault, stage: str) -> None:
    """A stage that reads a spoilt file names it and ends; one that does not read it makes what it always makes."""
    with bench.copy(fault) as project:
        for path in _files(bench, project, stage):
            content, where = path.read_bytes(), path.relative_to(project.folder)
            for how, spoil in SPOILT.items():
                bench.clear(project, stage)
                _spoil(bench, path, spoil)
                ended = run(project.folder, stage, STAGES[stage])
                path.write_bytes(content)
                named = ended.code == 1 and ended.tidy and str(where.parent) in ended.last
                unread = ended.code == 0 and not bench.differing(project)
                note = f"{where}, {how}: {ended.code}: {ended.said[-300:]}"
                bench.finish(fault, project, stage, named or unread, note)


def _files(bench: Bench, project: Project, stage: str) -> list[Path]:
    folders = [project.folder / dep for dep in bench.inputs(stage)]
    found = [file for folder in folders if folder.is_dir() for file in sorted(folder.rglob("*"))]
    return [
        file for file in found if READ.search(file.name) and file.name != MANIFEST and (file.parent / MANIFEST).exists()
    ]


def _spoil(bench: Bench, path: Path, spoil: Callable[[bytes, int], bytes]) -> None:
    content = path.read_bytes()
    path.write_bytes(spoil(content, bench.chance.randrange(len(content) // 4, 3 * len(content) // 4)))
