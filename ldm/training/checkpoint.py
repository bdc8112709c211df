"""Resume state: scratch that lets a killed run go on, and never outlives its inputs."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ldm.files import read_json, sha256, whole, write_json

log = logging.getLogger(__name__)


class Checkpoints:
    """The last two states of a run, each with its hash, in a folder that belongs to exactly these inputs.

    The caller keys the folder by a hash of everything the run depends on. Two states are kept, so that one damaged on
    the disk leaves the one before.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        """`writes` is for one of several processes; the others only read."""
        self.folder, self._writes = folder, writes

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Keep `state` (tensors, numbers, strings and containers of them) as that after `step` updates."""
        if not self._writes:
            return
        path = self.folder / f"step-{step:09d}.pt"
        with whole(path) as beside:
            torch.save(state, beside)
            digest = sha256(beside)
        write_json(path.with_suffix(".json"), {"sha256": digest, "step": step})
        for old in sorted(self.folder.glob("step-*.json"))[:-2]:
            old.unlink()
            old.with_suffix(".pt").unlink(missing_ok=True)

    @contextmanager
    def kept_when_stopped(self, step: int, state: Callable[[], dict[str, Any]]) -> Iterator[None]:
        """Around the `yield` of a loop: whoever stops there, after `step` updates, loses none of them.

        Not kept is a state with a loss that is no number, for there would be no way back from it.
        """
        try:
            yield
        except GeneratorExit:
            reached = state()
            if all(bool(torch.isfinite(values).all()) for values in reached["window"]):
                self.save(step, reached)
            raise

    def load(self, device: torch.device) -> tuple[int, dict[str, Any]] | None:
        """The newest whole state and its step, or None to start from the beginning."""
        for note in sorted(self.folder.glob("step-*.json"), reverse=True):
            path = note.with_suffix(".pt")
            if path.is_file() and _noted(note) == sha256(path):
                state = torch.load(path, map_location=device, weights_only=True)
                return int(note.stem.removeprefix("step-")), state
            log.warning("%s is damaged; going back to the checkpoint before it", path)
        return None


def _noted(note: Path) -> str | None:
    """The hash that `note` holds; None where the note itself is damaged."""
    try:
        return str(read_json(note)["sha256"])
    except (ValueError, KeyError, TypeError):
        return None
