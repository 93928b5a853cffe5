"""What every request passes, as plain ASGI: the observer outside, the gate inside."""

import asyncio
import logging
import re
import time
from datetime import UTC, datetime
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from movie_mlops.api.errors import (
    BodyTooLargeError,
    ForeignHostError,
    IncompleteBodyError,
    InvalidRequestError,
    MissingHostError,
    RequestRefusedError,
    SlowBodyError,
    UnsupportedBodyError,
    problem,
    problem_of,
)
from movie_mlops.monitoring.metrics import UNMATCHED, RequestMeter
from movie_mlops.settings import Settings

MAX_DEPTH = 32
_LOG = logging.getLogger(__name__)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_JSON = re.compile(rb"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_WITHOUT_TEMPLATE = frozenset({"/docs", "/redoc", "/openapi.json"})  # FastAPI's own routes
_GONE = 499


class Observer:
    """Gives the request its id and its time limit, counts it, logs it, catches what falls through.

    The access log is `app.state.services.access_log` once the services are open.
    """

    def __init__(self, app: ASGIApp, settings: Settings, meter: RequestMeter) -> None:
        self._app, self._meter = app, meter
        self._limit = settings.request_timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        start, status = time.perf_counter(), 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            async with asyncio.timeout(self._limit):
                await self._app(scope, receive, observed)
        except Exception as error:
            if status:
                raise  # the answer has begun: the server must cut the connection
            _LOG.exception("request %s failed", request_id)
            slow = isinstance(error, TimeoutError)
            await _failed(scope, request_id, slow)(scope, receive, observed)
        finally:
            self._note(scope, status or _GONE, time.perf_counter() - start)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        endpoint = _endpoint(scope)
        self._meter.record(method, endpoint, status, seconds)
        services = getattr(scope["app"].state, "services", None) if "app" in scope else None
        if services is not None:
            services.access_log.write(
                {
                    "time": datetime.now(UTC),
                    "request_id": scope["state"]["request_id"],
                    "method": method,
                    "endpoint": endpoint,
                    "status": status,
                    "ms": round(1000 * seconds, 3),
                }
            )


class Gate:
    """Turns away foreign hosts and bodies that are too large, too deep or no JSON."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts)
        self._max_body = settings.max_body_bytes
        self._body_seconds = settings.request_timeout_seconds / 2

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = dict(scope["headers"])
            self._check_host(headers.get(b"host"))
            if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
                receive = _replay(await self._body(headers, receive), receive)
        except RequestRefusedError as error:
            answer = problem_of(error, scope["path"], scope["state"]["request_id"])
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_host(self, header: bytes | None) -> None:
        if not header:
            message = "send a Host header"
            raise MissingHostError(message)
        host = header.decode("latin-1").lower()
        name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
        if name not in self._hosts and "*" not in self._hosts:
            message = (
                f"this server is not {name[:80]!r}; "
                "add the name to MOVIE_MLOPS_ALLOWED_HOSTS if it should be"
            )
            raise ForeignHostError(message)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length[:12]) > self._max_body:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._body_seconds):
                body = await self._read(receive)
        except TimeoutError:
            message = "the body came too slowly; send it at once"
            raise SlowBodyError(message) from None
        if body:
            _check_json(headers, body)
        return body

    async def _read(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                text = "the client left before its body was whole"
                raise IncompleteBodyError(text)
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._max_body:
                raise self._too_large()
            more = message.get("more_body", False)
        return b"".join(chunks)

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(f"a body may have {self._max_body} bytes; send less at once")


def _check_json(headers: dict[bytes, bytes], body: bytes) -> None:
    if not _JSON.fullmatch(headers.get(b"content-type", b"").strip()):
        message = "send JSON with the header Content-Type: application/json"
        raise UnsupportedBodyError(message)
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        message = "send the body without Content-Encoding"
        raise UnsupportedBodyError(message)
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        message = f"the JSON is nested deeper than {MAX_DEPTH} levels"
        raise InvalidRequestError(message)


def _depth(body: bytes) -> int:
    depth = deepest = 0
    for token in _TOKENS.finditer(body):
        if token[0] in (b"[", b"{"):
            depth += 1
            deepest = max(depth, deepest)
        elif token[0] in (b"]", b"}"):
            depth -= 1
    return deepest


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()  # waits until the client is gone
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return uuid4().hex


def _endpoint(scope: Scope) -> str:
    template = getattr(scope.get("route"), "path", None)
    if isinstance(template, str) and template:
        return template
    if scope["path"].startswith("/assets/"):
        return "/assets"
    return scope["path"] if scope["path"] in _WITHOUT_TEMPLATE else UNMATCHED


def _failed(scope: Scope, request_id: str, slow: bool) -> ASGIApp:
    if slow:
        detail, status = "this took too long; try again in a moment", 503
        return problem(status, detail, scope["path"], request_id, {"headers": {"Retry-After": "1"}})
    detail = f"an error of ours; the log has it under request {request_id}"
    return problem(500, detail, scope["path"], request_id)
