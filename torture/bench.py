"""Where faults are tried: the undisturbed result, copies of it to spoil, and what came of each fault."""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from ldm.config import load
from torture.process import Ended, python, run
from torture.project import REPRO, ROOT, Project, contents

STAGES = {
    "prepare": "scenes",
    "train_autoencoder": "kl-f4",
    "cache_latents": "scenes-kl-f4",
    "train_diffusion": "text-f4",
    "sample": "text-f4",
    "collect": "bicubic",
    "reference": "scenes-test",
    "evaluate_autoencoder": "kl-f4",
    "evaluate": "text-f4",
    "export_study": "super-resolution",
    "report": "report",
}
"""Every stage, and a row of it."""
MADE_FROM = ("ldm/", "flows/", "dvc.yaml", "constraints", "presets/smoke.yaml", "torture/project.py")
"""What a result is a function of; an undisturbed one made from the same is used again."""
TRAININGS = ("train_autoencoder", "train_diffusion")
LOCK = "dvc.lock"


@dataclass(kw_only=True)
class Fault:
    """One kind of fault, how often it was tried, and what came of it."""

    name: str
    tried: int = 0
    survived: int = 0
    """Ended as promised, and the next run went on to the end."""
    differing: int = 0
    """Bytes of all outputs and of dvc.lock that then were not those of an undisturbed run."""
    notes: list[str] = field(default_factory=list)
    left_out: str = ""
    """Why nothing could be tried here."""

    def add(self, survived: bool, differing: Mapping[str, int] | None = None, note: str = "") -> None:
        """`differing`: bytes by file."""
        self.tried += 1
        self.survived += survived
        self.differing += sum((differing or {}).values())
        if differing:
            self.notes.append(f"differ: {', '.join(sorted(differing)[:5])}")
        if note and (differing or not survived):
            self.notes.append(note)

    def join(self, other: "Fault") -> None:
        """Count what was tried of it elsewhere, too."""
        self.tried += other.tried
        self.survived += other.survived
        self.differing += other.differing
        self.notes += other.notes
        self.left_out = self.left_out or other.left_out

    @property
    def verdict(self) -> str:
        if self.left_out and not self.tried:
            return f"left out: {self.left_out}"
        return "passed" if self.tried and self.survived == self.tried and not self.differing else "FAILED"


Try = tuple[str, Callable[["Bench", Fault], None]]
"""The name of a fault, and what tries it, of one stage perhaps, and counts in the `Fault` that it is given."""


class Bench:
    def __init__(self, reference: Project, *, kills: int, every_point: bool, seed: int) -> None:
        """`reference`: undisturbed, built by `dvc repro`; copies lie beside it."""
        self.reference, self.kills, self.every_point, self.seed = reference, kills, every_point, seed
        self.chance = random.Random(seed)

    def build(self) -> None:
        made_from = [name for name in Project.files() if name.startswith(MADE_FROM)]
        files = {name: sha256((ROOT / name).read_bytes()).hexdigest() for name in made_from}
        code, note = sha256(repr(files).encode()).hexdigest(), self.reference.folder.with_name("reference-is-built-of")
        if not note.exists() or note.read_text() != code:
            shutil.rmtree(self.reference.folder, ignore_errors=True)
            Project.new(self.reference.folder, self.reference.home)
            self.reference.run(*REPRO)
            self.reference.commit("What the small preset makes")
            note.write_text(code)

    @cached_property
    def _locked(self) -> dict[str, dict[str, list[dict[str, str]]]]:
        return load(self.reference.folder / LOCK)["stages"]

    def outputs(self, stage: str) -> list[str]:
        """Paths that a stage writes."""
        return [out["path"] for out in self._locked[address(stage)]["outs"]]

    def inputs(self, stage: str) -> list[str]:
        """Paths that a stage reads."""
        return [dep["path"] for dep in self._locked[address(stage)]["deps"]]

    @cached_property
    def _made(self) -> dict[str, bytes]:
        return self._all(self.reference)

    def _all(self, project: Project) -> dict[str, bytes]:
        return contents(
            project.folder, [LOCK, *(out["path"] for made in self._locked.values() for out in made["outs"])]
        )

    @contextmanager
    def copy(self, fault: Fault | None = None) -> Iterator[Project]:
        """Of the undisturbed result, removed at the end. A `fault` fails unless DVC then finds nothing to do."""
        folder = Path(tempfile.mkdtemp(prefix="copy-", dir=self.reference.folder.parent))
        try:
            yield (project := self.reference.copied(folder / "project"))
            if fault:
                ended = python(project.folder, "dvc.__main__", "status", environment=project.environment)
                if ended.code or "Data and pipelines are up to date" not in ended.said:
                    fault.add(False, note=f"dvc status afterwards: {ended.said[-500:]}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def differing(self, project: Project, undisturbed: Project | None = None) -> dict[str, int]:
        """Outputs of all stages, and dvc.lock, that are not as undisturbed, and in how many bytes."""
        return differing(self._all(undisturbed) if undisturbed else self._made, self._all(project))

    def clear(self, project: Project, stage: str) -> None:
        clear(project, self.outputs(stage))

    def finish(self, fault: Fault, project: Project, stage: str, promised: bool, note: str) -> None:
        """Run the stage again after a fault that ended as `promised`, or not, and count what came of it."""
        ended = run(project.folder, stage, STAGES[stage])
        well = ended.code == 0 and not left_over(project)
        words = note if not promised else f"{note}; then {ended.code}: {ended.last}"
        fault.add(promised and well, self.differing(project), f"{stage}: {words}")


def address(stage: str) -> str:
    """As DVC names it, with its row."""
    return stage if stage == STAGES[stage] else f"{stage}@{STAGES[stage]}"


def differing(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> dict[str, int]:
    """Bytes that are not the same, by file; of a file that is there once, all, and at least one."""

    def count(one: bytes, other: bytes) -> int:
        return sum(a != b for a, b in zip(one, other, strict=False)) + abs(len(one) - len(other))

    pairs = {path: (before.get(path), after.get(path)) for path in before.keys() | after.keys()}
    return {path: max(1, count(one or b"", other or b"")) for path, (one, other) in pairs.items() if one != other}


def clear(project: Project, paths: Iterable[str]) -> None:
    """As DVC does before it runs a stage that writes `paths`, and with no state of an earlier one."""
    for path in paths:
        place = project.folder / path
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    shutil.rmtree(project.folder / ".resume", ignore_errors=True)


def left_over(project: Project) -> list[Path]:
    """States that should have gone with the end of their stage."""
    return [path for path in project.folder.glob(".resume/*/*") if path.is_dir()]


def promised_line(ended: Ended) -> bool:
    """Whether it refused as a user may expect: exit code 1, and a line."""
    return ended.code == 1 and ended.tidy
