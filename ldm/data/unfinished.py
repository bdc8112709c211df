"""Latents being written: whole files, each known by its hash, that a killed run leaves for the next to go on from."""

import logging
import shutil
from itertools import count
from pathlib import Path

from ldm.files import read_json, sha256, write_json

log = logging.getLogger(__name__)


class Unfinished:
    """A `folder` in `resume` that becomes the output when it is complete. The caller keys `resume` by all inputs."""

    def __init__(self, resume: Path) -> None:
        self.folder, self._notes = resume / "latents", resume / "notes"
        self.folder.mkdir(parents=True, exist_ok=True)
        for part in self.folder.glob(".*.part"):
            part.unlink()

    def files(self, split: str) -> list[Path]:
        """The whole files of `split` from the first on; a damaged one is removed, and with it those after it."""
        whole: list[Path] = []
        for number in count():
            path = self.folder / f"{split}-{number:05d}.arrow"
            if not path.is_file():
                break
            if self._noted(path) != sha256(path):
                log.warning("%s is damaged; it and what follows it are written again", path)
                break
            whole.append(path)
        for path in self.folder.glob(f"{split}-*.arrow"):
            if path not in whole:
                path.unlink()
        return whole

    def note(self, path: Path) -> None:
        """Keep the hash of a file that is whole."""
        write_json(self._note(path.name), {"sha256": sha256(path)})

    def hashes(self) -> dict[str, str]:
        """By name, of the files that were noted."""
        return {path.name: read_json(self._note(path.name))["sha256"] for path in self.folder.glob("*.arrow")}

    def finish(self, out: Path) -> None:
        """The folder is `out` from now on, instead of what was there."""
        if out.exists():
            shutil.rmtree(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(self.folder, out)

    def _note(self, name: str) -> Path:
        return self._notes / f"{name}.json"

    def _noted(self, path: Path) -> str | None:
        """None where the file became whole and its note did not, or the note is damaged."""
        try:
            return str(read_json(self._note(path.name))["sha256"])
        except (ValueError, KeyError, TypeError):
            return None
