"""The server as strangers and the owner reach it: what is stored, what is refused, what is never told."""

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from ldm.study import store
from ldm.study.export import export
from ldm.study.guards import Bucket, Rate
from ldm.study.trials import sheet
from tests.study.samples import Exported, settings
from tests.study.serving import TOKEN, Serving

EVIL = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def serving(inputs, tmp_path_factory) -> Iterator[Serving]:
    root = tmp_path_factory.mktemp("served")
    study = Exported(root / "public", root / "key.json")
    config = settings(trials=2, catch=0, practice=1, question=EVIL, consent=EVIL)
    list(export(config, inputs.first, inputs.second, inputs.images, study.public, study.key))
    (root / "public" / "notes.txt").write_text("not named by the page")
    one = Serving(study, ["--newcomers", "100"])
    one.start()
    yield one
    one.stop()


@pytest.fixture
def client(serving: Serving) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serving.url) as client:
        yield client


def rater(number: int) -> dict[str, str]:
    return {"rater": f"{number:016x}", "secret": f"{number:032x}"}


def enrol(client: httpx.Client, serving: Serving, number: int) -> list[str]:
    """The rater's trials."""
    reply = client.post("api/raters", json={**rater(number), "study": serving.study.page["study"], "agreed": True})
    assert reply.status_code == 200, reply.text
    return sheet(serving.study.lists, reply.json()["sheet"])


def answer(trial: str, **changes) -> dict:
    return {"trial": trial, "choice": "left", "response_ms": 900, "shown_ms": 3000, "looks": 1, **changes}


def send(client: httpx.Client, number: int, *answers: dict, **changes) -> httpx.Response:
    return client.post("api/answers", json={**rater(number), "answers": list(answers), **changes})


def stored(serving: Serving, number: int) -> list[dict]:
    found = [one for one, _ in store.read(serving.database) if one["rater"] == rater(number)["rater"]]
    return found[0]["trials"] if found else []


def test_lists_go_to_as_many_raters_each_and_the_same_message_twice_counts_once(client, serving):
    given = [enrol(client, serving, number) for number in range(100, 112)]
    assert given == [sheet(serving.study.lists, number) for number in range(12)]  # two of each list, begun apart
    trials = enrol(client, serving, 100)
    assert trials == given[0]
    assert send(client, 100, answer(trials[0])).json() == {"answered": [trials[0]]}
    assert send(client, 100, answer(trials[0]), answer(trials[1])).json() == {"answered": trials[:2]}
    assert send(client, 100, answer(trials[0], choice="right")).json() == {"answered": trials[:2]}
    assert stored(serving, 100) == [answer(trials[0]), answer(trials[1])]
    again = client.post("api/raters", json={**rater(100), "study": serving.study.page["study"], "agreed": True})
    assert again.json() == {"sheet": 0, "answered": trials[:2]}


def test_who_has_finished_is_given_the_code_and_nobody_before(exported):
    study = exported(trials=1, catch=0, completion="C0MPLETED")
    assert "C0MPLETED" not in (study.public / "index.html").read_text()
    serving = Serving(study, [])
    serving.start()
    try:
        with httpx.Client(base_url=serving.url) as client:
            assert "C0MPLETED" not in client.get("/").text
            trials = enrol(client, serving, 1)
            for trial in trials[:-1]:
                assert "completion" not in send(client, 1, answer(trial)).json()
            assert send(client, 1, answer(trials[-1])).json()["completion"] == "C0MPLETED"
            again = client.post("api/raters", json={**rater(1), "study": serving.study.page["study"], "agreed": True})
            assert again.json()["completion"] == "C0MPLETED"
    finally:
        serving.stop()


def test_forged_and_malformed_answers_are_refused_and_store_nothing(client, serving):
    trials = enrol(client, serving, 1)
    others = next(name for names in serving.study.lists for name in names if name not in trials)
    good = answer(trials[0])
    assert send(client, 1, good, secret="f" * 32).status_code == 403
    assert send(client, 2, good).status_code == 404
    forged = {**rater(1), "secret": "f" * 32, "study": serving.study.page["study"], "agreed": True}
    assert client.post("api/raters", json=forged).status_code == 403
    assert client.post("api/raters", json={**rater(3), "study": "another", "agreed": True}).status_code == 409
    assert client.post("api/raters", json={**forged, "agreed": False}).status_code == 422
    bad = [
        answer("unknown"),
        answer(others),
        answer(trials[0], choice="both"),
        answer(trials[0], choice=EVIL),
        answer(trials[0], response_ms=-1),
        answer(trials[0], response_ms=10**30),
        answer(trials[0], response_ms=1.5),
        answer(trials[0], looks=0),
        answer(trials[0], looks=True),
        answer(trials[0], more=1),
        answer("'; DROP TABLE answers; --"),
    ]
    for one in bad:
        assert send(client, 1, good, one).status_code == 422, one
    raw = ["", "{", "[" * 30_000, '{"answers": NaN}', '{"\\ud800": "\\ud800"}', "null", '"\\ud800"']
    for text in raw:
        reply = client.post("api/answers", content=text, headers={"Content-Type": "application/json"})
        assert reply.status_code in (400, 422), (text[:20], reply.status_code)
    assert client.post("api/answers", content="{}", headers={"Content-Type": "text/plain"}).status_code == 422
    assert stored(serving, 1) == []


def test_bodies_that_are_too_long_are_refused_said_or_not(client):
    body = b'{"answers": "' + b"x" * 100_000 + b'"}'
    headers = {"Content-Type": "application/json"}
    assert client.post("api/answers", content=body, headers=headers).status_code == 413
    pieces = (body[i : i + 10_000] for i in range(0, len(body), 10_000))
    assert client.post("api/answers", content=pieces, headers=headers).status_code == 413  # chunked: no length is said


def test_other_sites_may_not_post(client, serving):
    trials = enrol(client, serving, 4)
    message = {**rater(4), "answers": [answer(trials[0])]}
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post("api/answers", json=message, headers=headers).status_code == 403
    assert stored(serving, 4) == []
    own = {"Origin": serving.url.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    reply = client.post("api/answers", json=message, headers=own)
    assert reply.status_code == 200
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:99999", "evil.example/<script>", "evil example", ""])
def test_an_unknown_host_gets_what_everyone_gets_and_comes_back_in_no_reply(client, serving, host):
    paths = ("/", "/owner", "/api/counts", "/pictures", "/nothing/")
    for path, usual in ((path, asked(serving, path)[0]) for path in paths):
        status, reply = asked(serving, path, host)
        assert status in (usual, 400), path
        assert b"evil" not in reply
        assert b"location:" not in reply.lower()
    trials = enrol(client, serving, 8)
    message = {**rater(8), "answers": [answer(trials[0])]}
    headers = {"Host": "evil.example", "Origin": serving.url.rstrip("/")}
    assert client.post("api/answers", json=message, headers=headers).status_code == 403
    assert client.get("api/counts", headers={"Host": "evil.example"}).status_code == 401
    assert stored(serving, 8) == []


def asked(serving: Serving, path: str, host: str = "x") -> tuple[int, bytes]:
    """A path as it is, which a client library would tidy first."""
    with socket.create_connection(("127.0.0.1", serving.port)) as one:
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        reply = b""
        while piece := one.recv(65536):
            reply += piece
    return int(reply.split()[1]), reply


def test_nothing_is_served_but_the_page_and_its_pictures(client, serving):
    pair = serving.study.page["lists"][0][0]
    assert client.get(pair["left"]).content == (serving.study.public / pair["left"]).read_bytes()
    paths = [
        "/../key.json",
        "/pictures/../../key.json",
        "/pictures/..%2f..%2fkey.json",
        "/pictures/%2e%2e/%2e%2e/key.json",
    ]
    paths += [
        "/pictures/....//....//key.json",
        "/pictures//etc/passwd",
        "/pictures/..%5c..%5ckey.json",
        "/pictures/%00",
    ]
    paths += [
        "/key.json",
        "/answers.db",
        "/answers.db-wal",
        "/notes.txt",
        "/pictures/",
        "/pictures",
        "/pictures/../notes.txt",
    ]
    paths += ["/manifest.json", "/docs", "/openapi.json", "/api/answers", "/api/raters", "//etc/passwd", "/api/"]
    for path in paths:
        status, reply = asked(serving, path)
        assert status in (400, 404, 405), path
        assert b"careful-model" not in reply
        assert b"SQLite" not in reply
    for path in ("", "owner", pair["left"], "nothing"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
    assert client.get("").text.count("<script") == 2  # the pairs and the page's own: none of the question's words


def test_counts_are_the_owners_alone(client, serving):
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN}):
        assert client.get("api/counts", headers=headers).status_code == 401
    assert client.get("api/counts", params={"token": TOKEN}).status_code == 401
    strange = client.get("api/counts", headers=[(b"authorization", b"Bearer \xff\xfe")])
    assert strange.status_code == 401
    before = client.get("api/counts", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    trials = enrol(client, serving, 5)
    assert send(client, 5, *[answer(trial) for trial in trials]).status_code == 200
    after = client.get("api/counts", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    grown = {key: after[key] - before[key] for key in ("started", "finished", "active", "answers")}
    assert grown == {"started": 1, "finished": 1, "active": 0, "answers": len(trials)}
    assert sum(one["answers"] for one in after["lists"]) == after["answers"]


def test_a_flood_is_slowed_down(inputs, exported):
    one = Serving(exported(trials=1, catch=0), ["--newcomers", "3", "--raters", "2"])
    one.start()
    with httpx.Client(base_url=one.url) as client:
        study = one.study.page["study"]
        replies = [
            client.post("api/raters", json={**rater(n), "study": study, "agreed": True}).status_code for n in range(5)
        ]
        assert replies == [200, 200, 403, 429, 429]  # two places, then three newcomers an hour
        trials = enrol(client, one, 0)
        assert any(send(client, 0, answer(trials[0])).status_code == 429 for _ in range(400))
    one.stop()


def test_it_ends_on_interrupt_keeps_what_it_took_and_prints_no_token_nor_address(exported):
    one = Serving(exported(trials=1, catch=0))
    one.start()
    with httpx.Client(base_url=one.url) as client:
        trials = enrol(client, one, 0)
        send(client, 0, answer(trials[0]))
        client.get("api/counts", headers={"Authorization": f"Bearer {TOKEN}"})
        client.get("api/counts", headers={"Authorization": "Bearer wrong"})
    said = one.stop(signal.SIGINT)
    assert one.process.returncode == 0
    assert one.url in said
    assert TOKEN not in said
    assert "GET" not in said
    assert "Traceback" not in said
    assert stored(one, 0) == [answer(trials[0])]
    one.start({"LDM_OWNER_TOKEN": ""})
    with httpx.Client(base_url=one.url) as client:
        assert send(client, 0, answer(trials[1])).json() == {"answered": trials[:2]}
    made = one.stop(signal.SIGINT).split("/owner#")[1].split()[0]
    assert len(made) == 32


def test_mistakes_of_the_owner_are_one_line(exported, tmp_path):
    study = exported(trials=1, catch=0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"{port}: address already in use" in mistake(Serving(study, port=port))
    assert "not a page of a study" in mistake(Serving(Exported(tmp_path / "public", tmp_path / "key.json")))
    assert "public folder" in mistake(Serving(study, ["--answers", str(study.public / "answers.db")]))
    assert "too short" in mistake(Serving(study, ["--owner-token", "short"]))
    text = tmp_path / "text.db"
    text.write_text("not a database, but long enough to be looked at as one" * 20)
    assert "not a database" in mistake(Serving(study, ["--answers", str(text)]))
    other = exported("other", trials=2, catch=0)
    store.Store(tmp_path / "other.db", other.page["study"], other.lists).close()
    assert "holds answers to study" in mistake(Serving(study, ["--answers", str(tmp_path / "other.db")]))
    next((study.public / "pictures").iterdir()).unlink()
    assert "missing" in mistake(Serving(study))


def mistake(one: Serving) -> str:
    """What the command raises, which the command line prints."""
    done = subprocess.run(one.command(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    last = done.stderr.replace("│", " ").splitlines()
    return " ".join(" ".join(last[[i for i, line in enumerate(last) if "ValueError" in line][-1] :]).split())


def test_who_left_makes_room_and_may_come_back(tmp_path, monkeypatch):
    now = datetime.now(UTC)

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return now

    monkeypatch.setattr(store, "datetime", Clock)
    one = store.Store(tmp_path / "answers.db", "study", [["a", "A"], ["b", "B"]])
    assert [one.enrol(str(n), "secret").sheet for n in range(3)] == [0, 1, 2]
    one.record("1", "secret", [answer("b"), answer("B")])
    now += timedelta(hours=1)
    assert one.enrol("3", "secret").sheet == 0  # raters 0 and 2 are gone, rater 1 has finished
    with pytest.raises(store.RefusedError, match="Enough"):
        one.enrol("4", "secret", most=2)
    back = one.record("0", "secret", [answer("a"), answer("A")])
    assert back == store.Place(sheet=0, answered=["a", "A"])
    assert [one.enrol(str(n), "secret").sheet for n in range(4, 9)] == [3, 1, 2, 3, 2]  # now all are twice
    read = [(one["rater"], whole) for one, whole in store.read(tmp_path / "answers.db")]
    assert read[:4] == [("0", True), ("1", True), ("2", False), ("3", False)]
    one.close()


def test_a_bucket_fills_again(monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    bucket = Bucket(Rate(burst=2, per_second=0.5))
    assert [bucket.take("a") for _ in range(3)] == [True, True, False]
    assert bucket.take("b")
    now = 2.0
    assert [bucket.take("a") for _ in range(2)] == [True, False]


def test_the_database_holds_no_address_and_no_secret(client, serving):
    enrol(client, serving, 0xABCDEF)
    content = b"".join(path.read_bytes() for path in serving.database.parent.glob("answers.db*"))
    assert b"127.0.0.1" not in content
    assert rater(0xABCDEF)["secret"].encode() not in content
    assert json.dumps(serving.study.lists).encode()[:40] in content
