"""Copies of the rebuilt smoke preset, for tests that change what is in it."""

import copy
import shutil
from pathlib import Path
from typing import TypeVar

C = TypeVar("C")


def copied(rebuilt: C, folder: Path) -> C:
    """The checkout `rebuilt` again in `folder`, with its results, but without the runs that DVC could answer from."""
    project = copy.copy(rebuilt)
    shutil.copytree(rebuilt.folder, folder, symlinks=True)
    shutil.rmtree(folder / ".dvc/cache/runs", ignore_errors=True)  # where there are any
    project.folder = folder
    return project


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of each file below `folder`."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
