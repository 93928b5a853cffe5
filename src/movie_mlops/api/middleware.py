"""What every request passes first, as plain ASGI: its id, its time limit, the notes of it."""

import asyncio
import logging
import re
import time

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from movie_mlops.api.errors import RequestRefusedError, problem, problem_of
from movie_mlops.api.quick import lines_of
from movie_mlops.api.schemas.ids import REQUEST_ID
from movie_mlops.domain.errors import MovieMlopsError
from movie_mlops.domain.requests import new_request_id
from movie_mlops.monitoring.logs import AccessLog
from movie_mlops.monitoring.metrics import SHED, UNMATCHED, RequestMeter
from movie_mlops.settings import Settings

_LOG = logging.getLogger(__name__)
_REQUEST_ID = re.compile(REQUEST_ID.encode())
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_WITHOUT_TEMPLATE = frozenset({"/openapi.json"})  # FastAPI's own routes
_ALWAYS_ANSWERED = frozenset({"/health", "/metrics", "/v2/health/live", "/v2/health/ready"})
_GONE = 499
_DEADLINE_DIGITS = 10


class Traffic:
    """What is being answered now, how much that may be, and whether this process is leaving.

    `most` bounds the requests in flight, so that a crowd is told at once to come back instead of
    waiting without end; `shed_at` (monotonic) is when it was told last. A leaving process answers
    each connection's last request and closes it.
    """

    def __init__(self, most: int) -> None:
        self.most, self.in_flight, self.leaving = most, 0, False
        self.shed_at = float("-inf")

    def headers(self, request_id: str) -> list[tuple[bytes, bytes]]:
        """What every answer carries."""
        made = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
        return [*made, (b"connection", b"close")] if self.leaving else made

    def lines(self, request_id: str) -> bytes:
        """The same as lines."""
        return lines_of(self.headers(request_id))


class Journal:
    """Counts every answered request, and logs it once the log is open."""

    def __init__(self, meter: RequestMeter) -> None:
        self._meter = meter
        self.access_log: AccessLog | None = None
        self._second, self._date = 0, b""

    def note(self, method: str, endpoint: str, status: int, start: float, request_id: str) -> None:
        """Note one request that began at `start` of the performance counter.

        `endpoint` is a template of ours and the id is plain: nothing in the line needs escaping.
        """
        seconds = time.perf_counter() - start
        self._meter.record(method, endpoint, status, seconds)
        if self.access_log is not None:
            self.access_log.write(
                b'{"time":"%b","request_id":"%b","method":"%b","endpoint":"%b","status":%d,"ms":%.3f}'
                % (
                    self._now(),
                    request_id.encode(),
                    method.encode(),
                    endpoint.encode(),
                    status,
                    1000 * seconds,
                )
            )

    def _now(self) -> bytes:
        """The time in ISO 8601."""
        micros = time.time_ns() // 1_000
        second = micros // 1_000_000
        if second != self._second:
            self._second = second
            self._date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%b.%06dZ" % (self._date, micros % 1_000_000)


class Observer:
    """Gives the request its id and its time limit, notes it, catches what falls through.

    The limit is the setting's, or what the caller says in X-Deadline-Ms when that is less;
    `state.deadline` (of the monotonic clock) tells those who ask others for a part of the answer.
    A HEAD is answered as its GET would be, without the body (RFC 9110, 9.3.2), and noted as HEAD.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, journal: Journal, traffic: Traffic
    ) -> None:
        self._app, self._journal, self._traffic = app, journal, traffic
        self._limit = settings.request_timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, limit = request_id_in(scope), _limit_in(scope, self._limit)
        state = scope.setdefault("state", {})
        state["request_id"], state["deadline"] = request_id, time.monotonic() + limit
        start, status, method = time.perf_counter(), 0, scope["method"]
        if method == "HEAD":  # a copy: the server has to know that no body comes
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        app = self._app
        if self._traffic.in_flight >= self._traffic.most and scope["path"] not in _ALWAYS_ANSWERED:
            SHED.inc()
            self._traffic.shed_at = time.monotonic()
            app = _busy(scope["path"], request_id, "too much at once; try again in a second")
        self._traffic.in_flight += 1

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._traffic.headers(request_id)]
            await send(message)

        try:
            async with asyncio.timeout(limit):
                await app(scope, receive, observed)
        except Exception as error:
            if status:
                raise  # the answer has begun: the server must cut the connection
            await answer_of(error, scope["path"], request_id)(scope, receive, observed)
        finally:
            self._traffic.in_flight -= 1
            method = method if method in _METHODS else "OTHER"
            self._journal.note(method, _endpoint(scope), status or _GONE, start, request_id)


def _without_body(send: Send) -> Send:
    """Send the head and end the answer with it: nobody waits for a stream that is not sent."""

    async def bodiless(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b""})

    return bodiless


def request_id_in(scope: Scope) -> str:
    """The caller's id of the request where it is a plain one, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and is_request_id(value):
            return str(value.decode())
    return new_request_id()


def is_request_id(value: bytes) -> bool:
    """Whether it is short and plain."""
    return _REQUEST_ID.fullmatch(value) is not None


def _limit_in(scope: Scope, longest: float) -> float:
    for name, value in scope["headers"]:
        if name == b"x-deadline-ms" and value.isdigit() and len(value) < _DEADLINE_DIGITS:
            return min(int(value) / 1000, longest)
    return longest


def _endpoint(scope: Scope) -> str:
    template = getattr(scope.get("route"), "path", None)
    if isinstance(template, str) and template:
        return template
    if scope["path"].startswith("/assets/"):
        return "/assets"
    return scope["path"] if scope["path"] in _WITHOUT_TEMPLATE else UNMATCHED


def answer_of(error: Exception, path: str, request_id: str) -> Response:
    """What an error of any kind is answered with; one that is nobody's fault but ours is logged."""
    if isinstance(error, MovieMlopsError | RequestRefusedError):
        return problem_of(error, path, request_id)
    if isinstance(error, TimeoutError):
        _LOG.warning("request %s took longer than it may", request_id)
        return _busy(path, request_id, "this took too long; try again in a moment")
    _LOG.error("request %s failed", request_id, exc_info=error)
    detail = f"an error of ours; the log has it under request {request_id}"
    return problem(500, detail, path, request_id)


def _busy(path: str, request_id: str, detail: str) -> Response:
    return problem(503, detail, path, request_id, {"headers": {"Retry-After": "1"}})
