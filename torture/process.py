"""A stage in a process of its own that begins with everything imported: a fault costs what the stage does, no more.

The process is forked from this one, in which nothing was computed, and then does what `python -m flows.STAGE NAME`
does. Real new processes are started by the families in which `dvc repro` is what is tried.
"""

import os
import re
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

PATIENCE = 300.0
"""Seconds after which a process that should have ended counts as hanging, and is killed."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    code: int
    """Minus the signal where one ended it."""
    seconds: float
    said: str

    @property
    def tidy(self) -> bool:
        """Whether it ended with a line and not with a traceback."""
        return "Traceback" not in self.said and bool(self.said.strip())

    @property
    def last(self) -> str:
        return (self.said.strip().splitlines() or [""])[-1]


def run(
    folder: Path,
    stage: str,
    name: str,
    *,
    first: Callable[[], None] = lambda: None,
    when: float | Callable[[], bool] | None = None,
    how: signal.Signals = signal.SIGKILL,
    **environment: str,
) -> Ended:
    """Run a stage in `folder`, after `first()` in its process.

    Sent the signal `how` after so many seconds, or as soon as `when()` holds here.
    """
    row = [] if stage == name else [name]
    environment = {"FLOWS_PLAIN": "1", **environment}
    return python(folder, f"flows.{stage}", *row, first=first, when=when, how=how, environment=environment)


def python(
    folder: Path,
    module: str,
    *arguments: str,
    first: Callable[[], None] = lambda: None,
    when: float | Callable[[], bool] | None = None,
    how: signal.Signals = signal.SIGKILL,
    environment: Mapping[str, str] = os.environ,
) -> Ended:
    """What `python -m MODULE ARGUMENTS` does in `folder`; as `run`."""
    said = folder.with_name("said")
    began = time.monotonic()
    child = os.fork()
    if not child:
        _become(folder, module, arguments, said, first, environment)
    sent = False
    try:
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            seconds = time.monotonic() - began
            if ended:
                return Ended(
                    code=os.waitstatus_to_exitcode(status), seconds=seconds, said=said.read_text("utf-8", "replace")
                )
            due = when() if callable(when) else when is not None and seconds >= when
            if due and not sent and (how == signal.SIGKILL or _listens(child)):
                os.kill(child, how)
                sent = True
            if seconds > PATIENCE:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.001)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise


def _listens(child: int) -> bool:
    """Whether a signal would reach the stage: before it has begun, SIGTERM ends a process as SIGKILL does.

    It listens once it has an alarm too, which comes last, and which this process does not have: just after the fork
    the other handlers are still those of this one.
    """
    caught = re.findall(r"^SigCgt:\s*(\w+)", Path(f"/proc/{child}/status").read_text(), re.MULTILINE)
    return bool(caught) and bool(int(caught[0], 16) >> (signal.SIGALRM - 1) & 1)


def _become(
    folder: Path,
    module: str,
    arguments: Sequence[str],
    said: Path,
    first: Callable[[], None],
    environment: Mapping[str, str],
) -> NoReturn:
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(folder)
        os.environ.update(environment)
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.argv = [f"python -m {module}", *arguments]
        first()
        sys.modules.pop(module, None)  # it is to be the main module
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
