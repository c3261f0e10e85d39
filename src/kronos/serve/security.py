"""Who may ask, from where, and how much: checked before anything else sees a request.

The server is meant for the person at this machine. Other web pages in the same browser are the strangers here: they
cannot read answers (no CORS), cannot change anything (the Origin header), and cannot pretend to be this server
under a name of theirs (the Host header). Beyond loopback every caller shows a token.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
import socket
import time
from collections.abc import Callable
from hashlib import sha256

from prometheus_client import Counter, Histogram
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kronos.serve.errors import ApiError, answer
from kronos.serve.settings import COUNTS, MB, SECONDS, UPLOAD_BYTES, ServerSettings, is_loopback

COOKIE = "kronos_session"
UPLOAD_PATH = "/api/bars"
SUBMIT_PATH = "/api/forecasts"
BODY_SECONDS = 60.0  # in which a body must arrive
BODY_BYTES = 64 * 1024  # of anything but an upload

_REQUESTS = Counter("kronos_requests", "Answers by method and status.", ("method", "status"), registry=COUNTS)
_LATENCY = Histogram("kronos_request_seconds", "Time to the first byte.", buckets=SECONDS, registry=COUNTS)
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_METHODS = (*_SAFE_METHODS, "POST", "DELETE", "PUT", "PATCH")  # that are counted apart
_OPEN = ("/", "/healthz", "/readyz", "/api/session")  # without a token; and the studio's own files
_POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=()"),
)


class Tokens:
    """Checks tokens and session cookies in constant time.

    Args:
        token: what callers must show; None: nothing.
    """

    def __init__(self, token: str | None) -> None:
        self._token = None if token is None else token.encode()
        key = secrets.token_bytes(32)  # so that cookies end with the server
        self._cookie = "" if token is None else hmac.new(key, token.encode(), sha256).hexdigest()

    def cookie_for(self, token: str) -> str | None:
        """The session cookie for a token, empty where none is needed; None where it is wrong."""
        known = self._token is None or hmac.compare_digest(token.encode(), self._token)
        return self._cookie if known else None

    def accept(self, request: HTTPConnection) -> bool:
        """Whether a request shows the token, or the cookie that stands for it."""
        if self._token is None:
            return True
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode("latin-1"), self._token):
            return True
        return hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), self._cookie.encode())


class Guard:
    """The outermost layer of the application.

    Args:
        refusal: what to answer where the queue of forecasts is full; asked before a body is read.
    """

    def __init__(
        self, app: ASGIApp, settings: ServerSettings, tokens: Tokens, refusal: Callable[[], ApiError | None]
    ) -> None:
        self.app, self.settings, self.tokens, self.refusal = app, settings, tokens, refusal
        self.names = {"localhost", "127.0.0.1", "[::1]", *(name.lower() for name in settings.allowed_hosts)}
        if not is_loopback(settings.host):
            self.names |= {settings.host.lower(), socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":  # no web sockets here
                await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        method, path = scope["method"], scope["path"]

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
                if not any(name.lower() == b"cache-control" for name, _ in message["headers"]):
                    kept = b"no-cache" if path.startswith("/static/") else b"no-store"  # the former: ask for changes
                    message["headers"].append((b"cache-control", kept))
                _REQUESTS.labels(method if method in _METHODS else "other", message["status"]).inc()
                _LATENCY.observe(time.perf_counter() - began)
            await send(message)

        try:
            limit = self._admit(HTTPConnection(scope), method, path)
        except ApiError as error:
            await answer(error)(scope, receive, send_safely)
            return
        await self.app(scope, Bounded(receive, limit), send_safely)

    def _admit(self, request: HTTPConnection, method: str, path: str) -> int:
        """Bytes that the body may have."""
        headers = request.headers
        host = headers.get("host", "")
        if not self._is_own_name(host):
            raise ApiError(421, "host", "This server does not answer under that name.")
        if method not in _SAFE_METHODS:
            origin = headers.get("origin")
            foreign = origin is not None and origin.partition("://")[2] != host
            if foreign or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                raise ApiError(403, "origin", "Requests from other web pages are not accepted.")
        if not (path in _OPEN or path.startswith("/static/")) and not self.tokens.accept(request):
            raise ApiError(401, "token", "Show the server's token: Authorization: Bearer TOKEN.")
        if method == "POST" and path == SUBMIT_PATH and (refusal := self.refusal()) is not None:
            raise refusal
        upload = method == "POST" and path == UPLOAD_PATH
        limit = UPLOAD_BYTES + MB if upload else BODY_BYTES
        if int(headers.get("content-length") or "0") > limit:
            raise _too_large(limit)
        return limit

    def _is_own_name(self, host: str) -> bool:
        name = (host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]).lower()
        if name in self.names:
            return True
        try:  # an address cannot be rebound, a name can
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return address.is_loopback or not is_loopback(self.settings.host)


class Bounded:
    """Receives a body of limited size in limited time."""

    def __init__(self, receive: Receive, limit: int, seconds: float = BODY_SECONDS) -> None:
        self.receive, self.limit, self.size = receive, limit, 0
        self.complete = False
        self.until = time.monotonic() + seconds

    async def __call__(self) -> Message:
        if self.complete:
            return await self.receive()  # the end of the connection, for which to wait is right
        try:
            message = await asyncio.wait_for(self.receive(), max(0.0, self.until - time.monotonic()))
        except TimeoutError:
            raise ApiError(408, "slow", "The request did not arrive in time.") from None
        if message["type"] != "http.request":
            return message
        self.size += len(message.get("body", b""))
        if self.size > self.limit:
            raise _too_large(self.limit)
        self.complete = not message.get("more_body", False)
        return message


def _too_large(limit: int) -> ApiError:
    return ApiError(413, "too_large", f"The request is too large; at most {limit // 1024:,} KB are accepted here.")
