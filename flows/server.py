"""One Prefect server in the background for all stages, if none answers: `python -m flows.server`.

It is found by every later `dvc repro` on this machine. Without one each stage starts a temporary server, which
takes some five seconds longer.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

LOCAL_SERVER = "http://127.0.0.1:4200/api"
LOG = Path(".logs/prefect-server.log")


def answers(api: str) -> bool:
    """Whether a Prefect server is there and well."""
    try:
        with urlopen(f"{api}/health", timeout=2) as reply:
            return bool(reply.status == 200)
    except (OSError, ValueError):
        return False


def main() -> None:
    api = os.environ.get("PREFECT_API_URL") or LOCAL_SERVER
    interface = api.removesuffix("/api")
    if answers(api):
        print(f"Prefect's pages: {interface}")
        return
    place = urlsplit(api)
    if place.hostname not in ("127.0.0.1", "localhost"):
        sys.exit(f"PREFECT_API_URL: {api} does not answer; start that server, or unset the variable to use one here")
    server = start(place.hostname, place.port or 80, api)
    if server is None:
        print(f"no Prefect server could be started (see {LOG}); the stages run without", file=sys.stderr)
    else:
        print(f"Prefect's pages: {interface} (a server in the background; to end it: kill {server})")


def start(host: str, port: int, api: str, patience: float = 90.0) -> int | None:
    """Start a server that outlives this process; its process id once it answers, None where it does not come up.

    The first start on a machine makes the database, about 20 s.
    """
    LOG.parent.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_API_URL": api,  # else the pages call port 4200, whatever the server's own
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port)]
    with LOG.open("w") as log:
        server = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    until = time.monotonic() + patience
    try:
        while time.monotonic() < until and server.poll() is None:
            if answers(api):
                return server.pid
            time.sleep(0.3)
    except KeyboardInterrupt:
        server.terminate()
        raise
    server.terminate()
    return None


def temporary() -> str:
    """The API of a server that ends with this process: what it notes of runs is there when a later one is started.

    Prefect's own temporary server would end on the terminal's Ctrl-C, before anyone could tell it what was stopped.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    api = f"http://127.0.0.1:{port}/api"
    server = start("127.0.0.1", port, api)
    if server is None:
        raise RuntimeError(f"no server could be started (see {LOG})")
    atexit.register(_end, server)
    return api


def _end(server: int) -> None:
    with suppress(OSError):  # it may have ended by itself
        os.kill(server, signal.SIGTERM)
        os.waitpid(server, 0)


if __name__ == "__main__":
    main()
