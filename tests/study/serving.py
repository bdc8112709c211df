"""A real server of a study in a process of its own, to be talked to, killed and started again."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.study.samples import Exported

TOKEN = "the-owner-of-the-study"
COMMAND = "import typer; from ldm.cli.serving import serve; typer.run(serve)"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


@dataclass
class Serving:
    """`ldm study serve` on one port; `options` are more words of its command line."""

    study: Exported
    options: list[str] = field(default_factory=list)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def database(self) -> Path:
        return self.study.key.parent / "answers.db"

    def command(self) -> list[str]:
        words = [str(self.study.key.parent), "--port", str(self.port), *self.options]
        return [sys.executable, "-c", COMMAND, *words]

    def start(self, env: dict[str, str] | None = None) -> None:
        environment = {**os.environ, "LDM_OWNER_TOKEN": TOKEN, **(env or {})}
        self.process = subprocess.Popen(
            self.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        for _ in range(600):
            assert self.process.poll() is None, self.process.communicate()[0]
            try:
                httpx.get(self.url)
                return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the server does not answer")

    def stop(self, how: signal.Signals = signal.SIGKILL) -> str:
        """End it; what it printed."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.communicate(timeout=20)[0]
