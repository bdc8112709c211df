"""What stands before a server that strangers reach: rates, sizes, origins, and headers that hold a browser back."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 64 * 1024
HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NOTHING = "default-src 'none'; frame-ancestors 'none'"
REMEMBERED = 10_000


@dataclass(frozen=True, kw_only=True)
class Rate:
    """So many at once, and so many a second on the whole."""

    burst: float
    per_second: float


class Bucket:
    """A token bucket for each key; what is full again is forgotten."""

    def __init__(self, rate: Rate):
        self.rate = rate
        self.left: dict[str, tuple[float, float]] = {}
        self.lock = threading.Lock()

    def take(self, key: str) -> bool:
        """Whether one more is within the rate of `key`."""
        now = time.monotonic()
        with self.lock:
            if len(self.left) >= REMEMBERED:
                self.left = {k: v for k, v in self.left.items() if self._now(v, now) < self.rate.burst}
            left = self._now(self.left.get(key, (self.rate.burst, now)), now)
            if left < 1:
                return False
            self.left[key] = (left - 1, now)
            return True

    def _now(self, left: tuple[float, float], now: float) -> float:
        return min(self.rate.burst, left[0] + (now - left[1]) * self.rate.per_second)


class Guard:
    """Middleware: every address's rate, bodies' size, no posts from other sites' pages, safe headers on all replies."""

    def __init__(self, app: ASGIApp, addresses: Rate):
        self.app = app
        self.addresses = Bucket(addresses)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**HEADERS, "Content-Security-Policy": NOTHING, "Cache-Control": "no-store"}.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await JSONResponse({"detail": refusal[1]}, refusal[0])(scope, receive, guarded)
        else:
            await self.app(scope, limited(receive), guarded)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        if not self.addresses.take(address(scope)):
            return 429, "Too many requests. Wait a moment."
        if scope["method"] == "POST":
            origin = headers.get("origin")
            foreign = origin is not None and urlsplit(origin).netloc != headers.get("host")
            if foreign or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return 403, "Only the study's own page may send answers."
            length = headers.get("content-length", "0")
            if not length.isdecimal() or int(length) > MOST_BYTES:
                return 413, "Too much at once."
        return None


def limited(receive: Receive) -> Receive:
    """`receive`, stopping at bodies that turn out longer than was said."""
    seen = 0

    async def count() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MOST_BYTES:
            raise HTTPException(413, "Too much at once.")
        return message

    return count


def address(scope: Scope) -> str:
    """Of whoever asks."""
    return scope["client"][0] if scope.get("client") else ""
