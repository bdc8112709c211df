"""Which revision a checkout is at, and bringing a worker's clone to another."""

import subprocess
from fnmatch import fnmatch

WRITTEN = ("dvc.lock", "environment.json", "metrics/*.json")
"""What git tracks and a run writes: it says nothing of what was asked for."""


def revision() -> str:
    """The commit that is checked out. Raises ValueError where files differ from it that a run reads."""
    _clean()
    return _git("rev-parse", "HEAD")


def check_out(wanted: str) -> None:
    """Bring this clone to the commit `wanted`, fetching it where it is not known yet; what runs wrote is given up.

    Raises ValueError of one line where there is no such commit, or where somebody edited files here.
    """
    _clean()
    if not _known(wanted):
        _git("fetch", "--quiet", "--all", "--tags")
    if not _known(wanted):
        raise ValueError(f"no revision '{wanted}' here or where this clone is from; push it there: git push")
    _git("checkout", "--quiet", "--force", "--detach", f"{wanted}^{{commit}}")


def _known(wanted: str) -> bool:
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{wanted}^{{commit}}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _clean() -> None:
    lines = _git("status", "--porcelain", "--untracked-files=no").splitlines()
    edited = [line.split()[-1] for line in lines]
    edited = [path for path in edited if not any(fnmatch(path, pattern) for pattern in WRITTEN)]
    if edited:
        raise ValueError(f"{edited[0]} is not as committed, and workers run what is committed; commit or undo it")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"git {arguments[0]}: {' '.join(done.stderr.split()) or 'failed'}")
    return done.stdout.strip()
