"""Where faults are tried: the undisturbed result, copies of it to spoil, and what came of each fault."""

import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from torture.process import Ended, run
from torture.project import REPRO, ROOT, Project, contents, outputs

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
MADE_FROM = ("ldm/", "flows/", "dvc.yaml", "constraints", "presets/smoke.yaml")
"""What a result is a function of; an undisturbed one made from the same is used again."""
TRAININGS = ("train_autoencoder", "train_diffusion")


@dataclass(kw_only=True)
class Fault:
    """One kind of fault, how often it was tried, and what came of it."""

    name: str
    tried: int = 0
    survived: int = 0
    """Ended as promised, and the next run went on to the end."""
    differing: int = 0
    """Files that then were not as those of an undisturbed run."""
    notes: list[str] = field(default_factory=list)

    def add(self, survived: bool, differing: list[str] | None = None, note: str = "") -> None:
        self.tried += 1
        self.survived += survived
        self.differing += len(differing or [])
        if differing:
            self.notes.append(f"differ: {', '.join(differing[:5])}")
        if note and (differing or not survived):
            self.notes.append(note)

    @property
    def passed(self) -> bool:
        return self.survived == self.tried and not self.differing


class Bench:
    def __init__(self, folder: Path, kills: int, seed: int) -> None:
        self.folder, self.kills = folder, kills
        self.chance = random.Random(seed)
        self.reference = Project(folder / "reference", folder / "home")
        """Undisturbed, built by `dvc repro`."""

    def build(self) -> None:
        made_from = [name for name in Project.files() if name.startswith(MADE_FROM)]
        files = {name: sha256((ROOT / name).read_bytes()).hexdigest() for name in made_from}
        code, note = sha256(repr(files).encode()).hexdigest(), self.folder / "reference-is-built-of"
        if not note.exists() or note.read_text() != code:
            shutil.rmtree(self.reference.folder, ignore_errors=True)
            Project.new(self.reference.folder, self.reference.home)
            self.reference.run(*REPRO)
            self.reference.commit("What the smoke preset makes")
            note.write_text(code)

    @contextmanager
    def copy(self, *, cache: bool = False) -> Iterator[Project]:
        """Of the undisturbed result, removed at the end."""
        folder = Path(tempfile.mkdtemp(prefix="copy-", dir=self.folder))
        try:
            yield self.reference.copied(folder / "project", cache=cache)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def differing(self, project: Project, stage: str, name: str) -> list[str]:
        """Files of a stage that are not as undisturbed."""
        paths = outputs(stage, name)
        before, after = contents(self.reference.folder, paths), contents(project.folder, paths)
        return sorted(path for path in before | after if before.get(path) != after.get(path))

    def finish(self, fault: Fault, project: Project, stage: str, name: str, promised: bool, note: str) -> None:
        """Run the stage again after a fault that ended as `promised`, or not, and count what came of it."""
        ended = run(project.folder, stage, name)
        well = ended.code == 0 and not left_over(project)
        words = note if not promised else f"{note}; then {ended.code}: {ended.last}"
        fault.add(promised and well, self.differing(project, stage, name), f"{stage} {name}: {words}")


def clear(project: Project, stage: str, name: str) -> None:
    """As DVC does before it runs a stage, and with no state of an earlier one."""
    for path in outputs(stage, name):
        place = project.folder / path
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    shutil.rmtree(project.folder / ".resume", ignore_errors=True)


def left_over(project: Project) -> list[Path]:
    """States that should have gone with the end of their stage."""
    return [path for path in project.folder.glob(".resume/*/*") if path.is_dir()]


def promised_line(ended: Ended) -> bool:
    """Whether it refused as a user may expect: exit code 1, and a line."""
    return ended.code == 1 and ended.tidy
