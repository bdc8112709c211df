"""Answers in a SQLite file: whatever was acknowledged is on the disk, and counts once.

Addresses are not stored; of a rater's secret only the hash is.
"""

import hmac
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

ABANDONED = timedelta(minutes=30)
"""A rater unheard of for so long leaves the place to another; who comes back keeps the list all the same."""
FORMAT = 2
SCHEMA = """
CREATE TABLE study (study TEXT NOT NULL, lists TEXT NOT NULL) STRICT;
CREATE TABLE raters (
    rater TEXT PRIMARY KEY, secret BLOB NOT NULL, sheet INTEGER NOT NULL, agreed TEXT NOT NULL, seen TEXT NOT NULL
) STRICT;
CREATE TABLE answers (
    number INTEGER PRIMARY KEY, rater TEXT NOT NULL REFERENCES raters, trial TEXT NOT NULL,
    choice TEXT NOT NULL CHECK (choice IN ('left', 'right')), response_ms INTEGER NOT NULL, shown_ms INTEGER NOT NULL,
    looks INTEGER NOT NULL, received TEXT NOT NULL, UNIQUE (rater, trial)
) STRICT;
CREATE VIEW progress AS
    SELECT rater, sheet, seen, (SELECT COUNT(*) FROM answers WHERE answers.rater = raters.rater) AS answers FROM raters;
"""


class RefusedError(Exception):
    """What a rater asks for cannot be had; `status` is HTTP's."""

    def __init__(self, status: int, words: str):
        super().__init__(words)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a rater stands."""

    sheet: int
    """Which list, and where on it the rater begins (`ldm.study.trials.sheet`)."""
    answered: list[str]
    """Trials that are stored, in the order received."""


class Store:
    """The answers to one study; safe for several threads, and for several processes on one file."""

    def __init__(self, path: Path, study: str, lists: Sequence[Sequence[str]]):
        """Open or make the file; ValueError where it is something else, or holds the answers to another study."""
        self.lists = [list(trials) for trials in lists]
        self.known = [frozenset(trials) for trials in lists]
        self.lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        with _told(path):
            self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
                self.connection.execute("PRAGMA synchronous = FULL")
                self.connection.execute("PRAGMA foreign_keys = ON")
                self._begin(path, study)
            except BaseException:
                self.connection.close()
                raise

    def _begin(self, path: Path, study: str) -> None:
        with self._transaction() as run:
            if run.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0:
                for statement in SCHEMA.split(";"):
                    run.execute(statement)
                run.execute("INSERT INTO study VALUES (?, ?)", (study, json.dumps(self.lists)))
                run.execute(f"PRAGMA user_version = {FORMAT}")
        found = _study(self.connection, path)[0]
        if found != study:
            raise ValueError(f"{path}: holds answers to study {found}, this is {study}; name another file (--answers)")

    def close(self) -> None:
        with self.lock:
            self.connection.close()

    def find(self, rater: str, secret: str) -> Place | None:
        """Where the rater stands, None for one who has not begun."""
        with self._transaction() as run:
            if self._known(run, rater, secret) is None:
                return None
            run.execute("UPDATE raters SET seen = ? WHERE rater = ?", (_text(datetime.now(UTC)), rater))
            return self._place(run, rater)

    def enrol(self, rater: str, secret: str, most: int | None = None) -> Place:
        """Record that the rater agreed, and give a sheet; the same again changes nothing.

        It is of the list with the fewest raters who have finished or are at it, and of that list's sheets the first
        with the fewest: each is given once before one is given again, and who leaves makes room. With `most`, no more
        than so many raters are taken.
        """
        now = datetime.now(UTC)
        with self._transaction() as run:
            if self._known(run, rater, secret) is None:
                counts = self._per_list(run, now)
                taken = [one["finished"] + one["active"] for one in counts]
                if most is not None and sum(taken) >= most:
                    raise RefusedError(403, "Enough people have taken part already. Thank you all the same.")
                own = min(range(len(taken)), key=lambda one: (taken[one], counts[one]["started"], one))
                run.execute(
                    "INSERT INTO raters VALUES (?, ?, ?, ?, ?)",
                    (rater, _hash(secret), self._free_sheet(run, own, now), _text(now), _text(now)),
                )
            return self._place(run, rater)

    def record(self, rater: str, secret: str, answers: Sequence[Mapping[str, Any]]) -> Place:
        """Store answers: of each trial the first one. A trial that is not the rater's refuses them all."""
        now = _text(datetime.now(UTC))
        with self._transaction() as run:
            sheet = self._known(run, rater, secret)
            if sheet is None:
                raise RefusedError(404, "This rater has not begun here. Reload the page.")
            if any(answer["trial"] not in self.known[sheet % len(self.lists)] for answer in answers):
                raise RefusedError(422, "An answer to a pair that was not shown. Reload the page.")
            run.executemany(
                "INSERT INTO answers (rater, trial, choice, response_ms, shown_ms, looks, received) VALUES "
                "(:rater, :trial, :choice, :response_ms, :shown_ms, :looks, :received) "
                "ON CONFLICT (rater, trial) DO NOTHING",
                [{**answer, "rater": rater, "received": now} for answer in answers],
            )
            run.execute("UPDATE raters SET seen = ? WHERE rater = ?", (now, rater))
            return self._place(run, rater)

    def counts(self) -> dict[str, Any]:
        """For the owner: {study, pairs, started, finished, active, answers, lists: [the same of each list]}."""
        with self._transaction() as run:
            lists = self._per_list(run, datetime.now(UTC))
            study = run.execute("SELECT study FROM study").fetchone()[0]
        sums = {key: sum(one[key] for one in lists) for key in ("started", "finished", "active", "answers")}
        return {"study": study, "pairs": len(self.lists[0]), **sums, "lists": lists}

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self.lock:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                self.connection.execute("ROLLBACK")
                raise

    def _known(self, run: sqlite3.Connection, rater: str, secret: str) -> int | None:
        row = run.execute("SELECT sheet, secret FROM raters WHERE rater = ?", (rater,)).fetchone()
        if row is None:
            return None
        if not hmac.compare_digest(row[1], _hash(secret)):
            raise RefusedError(403, "This rater's number belongs to another browser.")
        return row[0]

    def _place(self, run: sqlite3.Connection, rater: str) -> Place:
        (sheet,) = run.execute("SELECT sheet FROM raters WHERE rater = ?", (rater,)).fetchone()
        rows = run.execute("SELECT trial FROM answers WHERE rater = ? ORDER BY number", (rater,))
        return Place(sheet=sheet, answered=[trial for (trial,) in rows])

    def _per_list(self, run: sqlite3.Connection, now: datetime) -> list[dict[str, int]]:
        counts = [{"started": 0, "finished": 0, "active": 0, "answers": 0} for _ in self.lists]
        lately = _text(now - ABANDONED)
        for sheet, seen, answers in run.execute("SELECT sheet, seen, answers FROM progress"):
            one, done = counts[sheet % len(counts)], answers == len(self.lists[0])
            one["started"] += 1
            one["finished"] += done
            one["active"] += not done and seen >= lately
            one["answers"] += answers
        return counts

    def _free_sheet(self, run: sqlite3.Connection, own: int, now: datetime) -> int:
        pairs = len(self.lists[own])
        here = run.execute(
            "SELECT sheet, COUNT(*) FROM progress WHERE answers = ? OR seen >= ? GROUP BY sheet",
            (pairs, _text(now - ABANDONED)),
        )
        taken = dict(here.fetchall())
        return min(range(own, pairs * len(self.lists), len(self.lists)), key=lambda one: (taken.get(one, 0), one))


def read(path: Path) -> list[tuple[dict[str, Any], bool]]:
    """Each rater's answers, as a file of answers has them, by the rater's number, and whether they are a whole list."""
    if not path.is_file():
        raise ValueError(f"{path}: not found; name the file that `ldm study serve` wrote")
    with _told(path), closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        study, lists = _study(connection, path)
        raters = connection.execute("SELECT rater, sheet FROM raters ORDER BY rater").fetchall()
        found: dict[str, list[dict[str, Any]]] = {rater: [] for rater, _ in raters}
        rows = connection.execute(
            "SELECT rater, trial, choice, response_ms, shown_ms, looks FROM answers ORDER BY number"
        )
        for rater, *values in rows:
            if rater in found:  # one who came while this was read has no place yet
                found[rater].append(
                    dict(zip(("trial", "choice", "response_ms", "shown_ms", "looks"), values, strict=True))
                )
    return [
        ({"study": study, "rater": rater, "trials": found[rater]}, len(found[rater]) == len(lists[sheet % len(lists)]))
        for rater, sheet in raters
    ]


def _study(connection: sqlite3.Connection, path: Path) -> tuple[str, list[list[str]]]:
    if connection.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
        raise ValueError(f"{path}: no answers to a study in it; name the file that `ldm study serve` wrote")
    study, lists = connection.execute("SELECT study, lists FROM study").fetchone()
    return study, json.loads(lists)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise ValueError(f"{path}: cannot be used as a file of answers ({error}); name another") from None


def _hash(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


def _text(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")
