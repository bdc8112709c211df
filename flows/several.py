"""A stage in several processes of this machine: `LDM_PROCESSES=2 dvc repro`, or before a stage's own command.

This process starts them and stays the one that DVC, Prefect and the user know: it shows what the first tells, ends all
where one fails, and says why in one line. Where it is gone itself, they notice and end.
"""

import base64
import io
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from typing import Any

from PIL import Image

from ldm.progress import Progress

PROCESSES = "LDM_PROCESSES"
"""How many; no parameter, for in exact mode they change no result."""
STARTED = "LDM_STARTED_TOGETHER"
"""Set for the processes that `together` started: the id of the one that did."""
GRACE = 12.0
"""Seconds for the first to end by itself, between two records, and for the reason why another is missed."""


def processes() -> int:
    given = os.environ.get(PROCESSES, "1")
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"{PROCESSES}={given}: expected how many processes share a stage, such as 2 (a GPU each)")
    return int(given)


def together(stage: str, name: str, count: int) -> Iterator[Progress]:
    """Run `stage` of `name` in `count` processes; the records of the first.

    Raises ValueError of one line where one of them fails.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), STARTED: str(os.getpid())}
    said: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
    children: list[subprocess.Popen[str]] = []
    try:
        for rank in range(count):
            children.append(
                subprocess.Popen(
                    [sys.executable, "-m", f"flows.{stage}", name, "--plain"],
                    env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True,
                )
            )  # fmt: skip
            threading.Thread(target=_listen, args=(rank, children[rank], said), daemon=True).start()
        yield from _records(children, said)
    finally:
        for child in children[:1]:
            child.terminate()
            try:
                child.wait(GRACE)
            except subprocess.TimeoutExpired:  # it waits for one that is gone, where no signal reaches Python
                child.kill()
        for child in children:
            child.kill()
            child.wait()


def _records(
    children: list[subprocess.Popen[str]], said: "queue.Queue[tuple[int, dict[str, Any] | None]]"
) -> Iterator[Progress]:
    missed, running = "", len(children)
    while running:
        try:
            rank, record = said.get(timeout=GRACE if missed else None)
        except queue.Empty:
            raise ValueError(missed) from None
        if record is None:
            running -= 1
            if code := children[rank].wait():
                reason = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                if not missed or code < 0:
                    again = "the same command goes on from the last saved state"
                    raise ValueError(f"process {rank + 1} of {len(children)} {reason}; {again}")
        elif "error" not in record:
            yield _progress(record)
        elif record["missed"]:
            missed = record["error"]
        else:
            raise ValueError(record["error"])
    if missed:
        raise ValueError(missed)


def _listen(rank: int, child: subprocess.Popen[str], said: "queue.Queue[tuple[int, dict[str, Any] | None]]") -> None:
    assert child.stdout is not None
    for line in child.stdout:
        said.put((rank, json.loads(line)))
    said.put((rank, None))


def tell(
    records: Callable[[], Iterator[Progress]],
    reason: Callable[[BaseException], str | None],
    between: Callable[[], None],
) -> None:
    """In one of these processes: go through the records, and tell those of the first on standard output.

    `reason` words an error that is the user's to mend; what is not, None, keeps its traceback. `between` records the
    first may be stopped, by a KeyboardInterrupt; the others, without whom it would not get so far, are killed.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library that prints does not get between the records
    end_with(int(os.environ[STARTED]))

    def put(record: dict[str, Any]) -> None:
        print(json.dumps(record), file=out, flush=True)

    try:
        with closing(records()) as given:  # type: ignore[type-var]
            for progress in given:
                if os.environ["RANK"] == "0":
                    put(asdict(progress) | {"pictures": {key: _png(image) for key, image in progress.pictures.items()}})
                    between()
    except KeyboardInterrupt:
        os._exit(130)
    except Exception as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending already
        line = reason(error)
        if line is None:
            traceback.print_exc()
            line = f"process {int(os.environ['RANK']) + 1}: {type(error).__name__}: {' '.join(str(error).split())}"
        put({"error": line, "missed": isinstance(error, ConnectionError)})
        os._exit(1)  # at once, as above: what else ends with a process may wait for the others


def end_with(parent: int) -> None:
    """Have this process end where its `parent` has, killed as it may be; torchrun's workers would go on."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _png(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, format="png")
    return base64.b64encode(out.getvalue()).decode()


def _progress(record: dict[str, Any]) -> Progress:
    pictures = {key: Image.open(io.BytesIO(base64.b64decode(png))) for key, png in record["pictures"].items()}
    return Progress(**(record | {"pictures": pictures}))
