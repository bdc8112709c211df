"""A failure is told to a webhook: a real server, a real automation, a real receiver."""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Queue

import pytest

NOTIFY = sys.executable, "-m", "flows.notify"


@pytest.fixture
def receiver() -> Iterator[tuple[str, Queue]]:
    """A webhook on this machine: its URL, and what it is sent."""
    sent: Queue = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", sent
    server.shutdown()
    server.server_close()


def test_a_failed_stage_is_told_once_with_the_place_the_reason_and_the_command(checkout, server, receiver):
    project, (url, sent) = checkout("notified"), receiver
    for _ in range(2):  # another call replaces the first
        assert project.run(*NOTIFY, url, **server.environment).stdout == f"failures are sent to {url}\n"
    project.edit("count: 120", "cuont: 120")
    assert project.stage("prepare", "scenes", ok=False, **server.environment).returncode == 1
    line = sent.get(timeout=30)["text"]
    assert line.startswith("prepare scenes Failed (")
    assert "cpu): params.yaml: datasets.scenes.source" in line
    assert line.endswith("; go on: dvc repro prepare@scenes")
    assert project.run(*NOTIFY, "--remove", **server.environment).stdout == "failures are no longer sent\n"
    assert server.ask("automations/filter") == []
    assert sent.empty()


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["ftp://here"], {}, "ftp://here: not a URL; it begins with https:// or http://"),
        (["http://here"], {"PREFECT_API_URL": "http://127.0.0.1:9/api"}, "no Prefect server answers at http://127.0.0"),
    ],
)
def test_what_cannot_be_is_one_line(checkout, arguments, environment, says):
    done = checkout("notify").run(*NOTIFY, *arguments, ok=False, **environment)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(says)
