"""Rebuild the committed revision from nothing, and compare every hash with its dvc.lock.

The rebuild is a clean clone with an empty DVC cache. It sees what git has and raw inputs (`*.dvc` files), and neither
results nor the run cache nor the state of interrupted stages, so nothing can pass for rebuilt that was only kept.
"""

import argparse
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table

from flows.compare import Lock, compare, differing_files, environment_differences, roots
from flows.inputs import PINS, numeric_versions
from flows.record import ENVIRONMENT, environment
from flows.server import LOCAL_SERVER, answers
from flows.stage import PLAIN
from ldm.config import load
from ldm.files import read_json

DVC = sys.executable, "-m", "dvc"
console = Console(highlight=False)


def main() -> None:
    arguments = _parser().parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _stop)
    try:
        sys.exit(verify(arguments.targets, keep=arguments.keep))
    except KeyboardInterrupt:
        print("verify: stopped", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        print(f"verify: {error}{'; TMPDIR=FOLDER names a larger disk' if full else ''}", file=sys.stderr)
        sys.exit(1)


def verify(targets: Sequence[str], *, keep: bool) -> int:
    """Rebuild and compare; 0 where every hash is the committed one, else 1."""
    _refuse_uncommitted()
    _say_environment()
    committed, cache = load("dvc.lock")["stages"], Path(_output(*DVC, "cache", "dir"))
    with _clone(cache, keep) as clone:
        code = _run(clone, *DVC, "repro", "--no-run-cache", "--force", *targets)
        lock = clone / "dvc.lock"
        rebuilt = load(lock)["stages"] if lock.is_file() else {}
        different = _tell_differences(committed, rebuilt, cache, clone / ".dvc/cache")
    if code:
        raise ValueError(f"the rebuild stopped; above is why ({len(rebuilt)} stages were rebuilt before)")
    if different:
        return 1
    outputs = compare(committed, rebuilt)
    _say(f"no difference: {len(outputs)} outputs of {len(rebuilt)} stages have the committed hashes")
    if not targets and (gone := sorted(set(committed) - set(rebuilt))):
        _say(f"dvc.lock also holds what is no stage any more: {_listed(gone)}")
    return 0


def _tell_differences(committed: Lock, rebuilt: Lock, cache: Path, rebuilt_cache: Path) -> bool:
    """Print the comparison; whether there is any difference."""
    outputs = compare(committed, rebuilt)
    table = Table("stage", "output", "rebuilt")
    for output in outputs:
        files = differing_files(output, cache, rebuilt_cache)
        shown = f"{output.verdict}: {_listed(files)}" if files else output.verdict
        table.add_row(output.stage, output.path, shown, style=None if output.verdict == "same" else "bold red")
    if outputs:
        console.print(table)
    count = sum(output.verdict != "same" for output in outputs)
    if count:
        _say(f"{count} of {len(outputs)} outputs are not as the committed dvc.lock says")
    for stage, changed in roots(committed, rebuilt).items():
        why = f"for these inputs are not the committed ones: {_listed(changed)}" if changed else "from equal inputs"
        _say(f"first to differ: {stage}, {why}")
    return count > 0


def _refuse_uncommitted() -> None:
    changed = _output("git", "status", "--porcelain", "--untracked-files=no").splitlines()
    if changed:
        names = _listed([line[3:] for line in changed])
        raise ValueError(f"these files differ from the last commit: {names}; commit them, a dirty tree proves nothing")
    if not _committed("dvc.lock"):
        raise ValueError(
            "dvc.lock is not committed; run dvc repro, then: git add dvc.lock environment.json, and commit"
        )


def _say_environment() -> None:
    """First of all: where the environment differs, other bytes need not be a fault of the revision."""
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", PINS.read_text(encoding="utf-8"), flags=re.MULTILINE))
    installed = numeric_versions()
    lines = [
        f"{name}: {PINS} pins {pin}, {installed[name]} is installed"
        for name, pin in pinned.items()
        if installed[name].partition("+")[0] != pin
    ]
    if _committed(str(ENVIRONMENT)):
        lines += environment_differences(read_json(ENVIRONMENT), environment())
    else:
        lines.append(f"no {ENVIRONMENT} is committed, so where dvc.lock was made is not known")
    for line in lines:
        _say(f"another environment: {line}")


@contextmanager
def _clone(cache: Path, keep: bool) -> Iterator[Path]:
    """A clone of HEAD without dvc.lock, with raw inputs alone in its own DVC cache; removed at the end, or kept."""
    clone = Path(tempfile.mkdtemp(prefix="verify-"))
    try:
        _say(f"rebuilding {_output('git', 'rev-parse', '--short', 'HEAD')} in {clone}")
        _output("git", "clone", "--quiet", str(Path.cwd()), str(clone))
        # What was configured on this machine, such as a shared cache, must not reach the clone.
        (clone / ".dvc/config.local").write_text(
            f"[cache]\n    dir = cache\n['remote \"original\"']\n    url = {cache}\n"
        )
        raw = _output("git", "ls-files", "*.dvc").splitlines()
        if raw and _run(clone, *DVC, "pull", "--remote", "original", *raw):
            raise ValueError(f"not all raw data of {_listed(raw)} is in the cache at {cache}: dvc pull brings it there")
        (clone / "dvc.lock").unlink()  # so that the new one holds what was rebuilt, and nothing else
        yield clone
    finally:
        if keep:
            _say(f"the clone is kept: {clone}")
        else:
            shutil.rmtree(clone)


def _run(clone: Path, *command: str) -> int:
    """Run `command` in the clone, where what it prints is seen, and leave nothing of it running; its exit code."""
    process = subprocess.Popen(
        command, cwd=clone, env=_environment(clone), stdin=subprocess.DEVNULL, process_group=0
    )  # of their own, so that DVC and its stage can be ended together
    try:
        return process.wait()
    except KeyboardInterrupt:
        _end(process)
        raise


def _end(process: subprocess.Popen[bytes], patience: float = 10.0) -> None:
    """End all of the process's group: stages tell Prefect so, unless they take too long."""
    os.killpg(process.pid, signal.SIGTERM)
    process.wait()
    until = time.monotonic() + patience
    try:
        while time.monotonic() < until:
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # none is left


def _environment(clone: Path) -> dict[str, str]:
    """This Python first, nothing that would lead out of the clone, and Prefect only where a server can show the stages.

    Without a server each stage would start a temporary one, ten seconds that nobody sees.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") and k != "PYTHONSAFEPATH"}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    kept["DVC_SITE_CACHE_DIR"] = str(clone / ".dvc/tmp/site")
    if not answers(kept.get("PREFECT_API_URL", LOCAL_SERVER)):
        kept[PLAIN] = "1"
    return kept


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(command)}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return done.stdout.rstrip("\n")


def _committed(name: str) -> bool:
    return bool(_output("git", "ls-tree", "--name-only", "HEAD", name))


def _listed(names: Sequence[str], most: int = 5) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _say(line: str) -> None:
    console.print(line, soft_wrap=True, markup=False)


def _stop(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.verify",
        description=__doc__,
        epilog="examples:\n"
        "  python -m flows.verify                        everything\n"
        "  python -m flows.verify train_diffusion@sr-f4  one stage, and what it is made from\n"
        "  TMPDIR=/data python -m flows.verify --keep    on another disk, and look at what was made\n\n"
        "exit code 0: no difference; 1: there is one, or the rebuild stopped.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "targets", metavar="TARGET", nargs="*", help="stages as DVC names them; all where none is named"
    )
    parser.add_argument("--keep", action="store_true", help="keep the clone, and say where it is")
    return parser


if __name__ == "__main__":
    main()
