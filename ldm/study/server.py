"""The raters' page over HTTP: each answer stored as it comes, the owner's counts behind a token."""

import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from pydantic import Field

from ldm.config import Section
from ldm.study.answers import Answer
from ldm.study.config import NO_COMPLETION
from ldm.study.guards import Bucket, Guard, Rate, address
from ldm.study.page import content_security_policy, for_server, owners, told
from ldm.study.store import Place, RefusedError, Store

MOST_MS = 10**9  # as in state.js
SHORTEST_TOKEN = 16

RaterNumber = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Secret = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


NEWCOMERS = Rate(burst=60, per_second=60 / 3600)
RATER = Rate(burst=60, per_second=1)
ADDRESS = Rate(burst=3000, per_second=100)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much is taken from whom."""

    raters: int | None = None
    """Raters who finish or are at it; None: as many as come."""
    newcomers: Rate = NEWCOMERS
    """New raters from one address."""
    rater: Rate = RATER
    """Messages of one rater."""
    address: Rate = ADDRESS
    """Requests of one address, pictures included."""


class Agreement(Section):
    """The first message of a rater."""

    study: str
    rater: RaterNumber
    secret: Secret
    agreed: Literal[True]


class Choice(Answer):
    """An answer with bounds that the database can hold."""

    trial: str = Field(max_length=64)
    response_ms: int = Field(ge=0, le=MOST_MS)
    shown_ms: int = Field(ge=0, le=MOST_MS)
    looks: int = Field(ge=1, le=MOST_MS)


class Sent(Section):
    """Answers that have not arrived yet, as far as the page knows."""

    rater: RaterNumber
    secret: Secret
    answers: list[Choice] = Field(min_length=1, max_length=200)


def application(
    public: Path, database: Path, owner_token: str, limits: Limits | None = None, completion: str = NO_COMPLETION
) -> FastAPI:
    """The server of the study exported to `public`, its answers in the file `database`.

    ValueError of one line where `public` is no study, `database` is another's or would be published, or the token is
    short. Nothing is served but the page, the pictures that it names and, to raters who have finished, `completion`.
    """
    if len(owner_token) < SHORTEST_TOKEN:
        raise ValueError(f"the owner's token is too short; take {SHORTEST_TOKEN} characters or more, or leave it out")
    if database.resolve().is_relative_to(public.resolve()):
        raise ValueError(f"{database}: the answers would stand in the public folder; name another file (--answers)")
    limits = limits or Limits()
    study = told(public / "index.html")
    html = for_server((public / "index.html").read_text(encoding="utf-8"))
    store = Store(database, study["study"], [[pair["trial"] for pair in pairs] for pairs in study["lists"]])

    @asynccontextmanager
    async def closing(_: FastAPI) -> AsyncIterator[None]:
        yield
        store.close()

    app = FastAPI(lifespan=closing, openapi_url=None, redirect_slashes=False)
    app.add_middleware(Guard, addresses=limits.address)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    _serve_pages(app, html, _pictures(public, study))
    _serve_raters(app, store, study["study"], limits, completion)
    _serve_owner(app, store, owner_token)
    return app


def _pictures(public: Path, study: Mapping[str, Any]) -> dict[str, Path]:
    """The files that the page names, by the path it asks for."""
    pairs = [pair for pairs in [study["practice"], *study["lists"]] for pair in pairs]
    names = {pair[slot] for pair in pairs for slot in ("left", "middle", "right") if slot in pair}
    files = {name: public / name for name in names}
    root = public.resolve()
    for path in files.values():
        if not path.is_file() or not path.resolve().is_relative_to(root):
            raise ValueError(
                f"{path}: a picture of the study is missing; export it again (dvc repro export_study@NAME)"
            )
    return files


def _serve_pages(app: FastAPI, html: str, pictures: Mapping[str, Path]) -> None:
    policy = {"Content-Security-Policy": content_security_policy(html)}
    owner = owners()
    owner_policy = {"Content-Security-Policy": content_security_policy(owner)}

    @app.api_route("/", methods=["GET", "HEAD"])
    def index() -> HTMLResponse:
        return HTMLResponse(html, headers=policy)

    @app.get("/owner")
    def owners_page() -> HTMLResponse:
        return HTMLResponse(owner, headers=owner_policy)

    @app.api_route("/pictures/{name:path}", methods=["GET", "HEAD"])
    def picture(name: str) -> FileResponse:
        path = pictures.get(f"pictures/{name}")
        if path is None:
            raise HTTPException(404, "Not found")
        return FileResponse(path, media_type="image/png", headers={"Cache-Control": "private, max-age=86400"})


def _serve_raters(app: FastAPI, store: Store, study: str, limits: Limits, completion: str) -> None:
    newcomers, raters = Bucket(limits.newcomers), Bucket(limits.rater)

    def arrived(place: Place) -> dict[str, Any]:
        finished = len(place.answered) == len(store.lists[0])
        told = {"completion": completion} if finished and completion != NO_COMPLETION else {}
        return {"answered": place.answered} | told

    @app.post("/api/raters")
    def enrol(agreement: Agreement, request: Request) -> dict[str, Any]:
        if agreement.study != study:
            raise RefusedError(409, "The study has changed. Reload the page.")
        place = store.find(agreement.rater, agreement.secret)
        if place is None:
            if not newcomers.take(address(request.scope)):
                raise RefusedError(429, "Many have begun from your network. Wait a while.")
            place = store.enrol(agreement.rater, agreement.secret, limits.raters)
        return {"sheet": place.sheet} | arrived(place)

    @app.post("/api/answers")
    def record(sent: Sent) -> dict[str, Any]:
        if not raters.take(sent.rater):
            raise RefusedError(429, "Too many answers at once. Wait a moment.")
        place = store.record(sent.rater, sent.secret, [answer.model_dump() for answer in sent.answers])
        return arrived(place)


def _serve_owner(app: FastAPI, store: Store, token: str) -> None:
    expected = f"Bearer {token}".encode()

    @app.get("/api/counts")
    def counts(authorization: Annotated[str, Header()] = "") -> dict[str, Any]:
        if not hmac.compare_digest(authorization.encode(), expected):
            raise HTTPException(401, "The owner's token is needed.", {"WWW-Authenticate": "Bearer"})
        return store.counts()


def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RefusedError)
    return JSONResponse({"detail": str(error)}, error.status)


def _malformed(_: Request, error: Exception) -> JSONResponse:
    """Says where, and repeats nothing of what was sent."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(ascii(part).strip("'")[:40] for part in first["loc"])
    return JSONResponse({"detail": f"Not as the page sends it: {where}: {first['type']}"}, 422)
