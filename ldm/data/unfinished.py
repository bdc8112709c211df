"""Latents being written: whole files, each known by its hash, that a killed run leaves for the next to go on from."""

import logging
import shutil
from pathlib import Path

from ldm.files import read_json, sha256, write_json

log = logging.getLogger(__name__)


class Unfinished:
    """A `folder` in `resume` that becomes the output when it is complete. The caller keys `resume` by all inputs."""

    def __init__(self, resume: Path) -> None:
        self.folder, self._notes = resume / "latents", resume / "notes"
        self.folder.mkdir(parents=True, exist_ok=True)

    def has(self, name: str) -> bool:
        """Whether the file `name` is there, and whole; a damaged one is removed."""
        path = self.folder / name
        if not path.is_file():
            return False
        if self._noted(name) == sha256(path):
            return True
        log.warning("%s is damaged; it is written again", path)
        path.unlink()
        return False

    def note(self, name: str) -> None:
        """Keep the hash of a file that is whole."""
        write_json(self._note(name), {"sha256": sha256(self.folder / name)})

    def hashes(self) -> dict[str, str]:
        """By name, of the files that were noted."""
        return {path.name: read_json(self._note(path.name))["sha256"] for path in self.folder.glob("*.arrow")}

    def finish(self, out: Path) -> None:
        """The folder is `out` from now on, instead of what was there."""
        if out.exists():
            shutil.rmtree(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(self.folder, out)

    def clear_halves(self) -> None:
        """Remove what killed processes were writing; for when all others are done."""
        for part in self.folder.glob(".*.part"):
            part.unlink()

    def _note(self, name: str) -> Path:
        return self._notes / f"{name}.json"

    def _noted(self, name: str) -> str | None:
        """None where the file became whole and its note did not, or the note is damaged."""
        try:
            return str(read_json(self._note(name))["sha256"])
        except (ValueError, KeyError, TypeError):
            return None
