"""The routes that are asked most, as plain ASGI: the same answers at a tenth of the cost.

Each has its FastAPI route as a twin, which owns the OpenAPI entry and every request that is not
plain: unusual headers or queries, bodies that break their schema, errors. What a hot route cannot
answer with a success it hands on untouched. A test sends the same requests through both.
"""

import re
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from pydantic import BaseModel
from starlette.types import Message, Receive, Scope, Send

from movie_mlops.api.dependencies import TokenBuckets
from movie_mlops.api.errors import RequestRefusedError
from movie_mlops.api.gate import MAX_DEPTH, check_host, hosts_of, takes_json
from movie_mlops.api.hot_lists import ReadyLists
from movie_mlops.api.middleware import Journal, Traffic, answer_of, is_request_id
from movie_mlops.api.routers.events import Publisher, record
from movie_mlops.api.routers.predictions import rating_answer
from movie_mlops.api.schemas.events import FeedbackIn, InteractionIn
from movie_mlops.api.schemas.predictions import MovieIn
from movie_mlops.domain.errors import EventError
from movie_mlops.domain.requests import new_request_id
from movie_mlops.events.base import parse_position
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.monitoring.metrics import TALLY
from movie_mlops.settings import Settings

LISTS, RATING = "/api/v1/recommendations", "/predict/movie"
EVENTS, FEEDBACK = "/api/v1/events/user-interaction", "/api/v1/feedback"
_FOR_THE_TWIN = frozenset(
    {b"authorization", b"content-encoding", b"expect", b"x-api-key", b"x-deadline-ms"}
)
_JSON = re.compile(rb"application/json(?:; ?charset=utf-8)?", re.IGNORECASE)
_JSON_TYPE = (b"content-type", b"application/json")
_AS_JSON = [_JSON_TYPE]
_MOST_HOSTS = 100  # and Accept headers, that are known to be good
_encode = msgspec.json.Encoder().encode

Body = TypeVar("Body", bound=BaseModel)
Headers = dict[bytes, bytes]
RawHeaders = list[tuple[bytes, bytes]]
Hot = Callable[[Scope, Receive, Send], Awaitable[Receive | None]]
"""Answers and returns None, or returns how the twin shall receive the request."""


class HotRoutes:
    """Made once per process, when its services are open."""

    def __init__(
        self,
        settings: Settings,
        services: ApiServices,
        publisher: Publisher,
        observers: tuple[Journal, Traffic],
        buckets: TokenBuckets,
    ) -> None:
        self._services, self._publisher, self._buckets = services, publisher, buckets
        self._journal, self._traffic = observers
        self._lists = ReadyLists(services)
        self._audience, self._note_shown = services.audience, services.audience.exposures.note
        self._hosts, self._good_hosts = hosts_of(settings), set[bytes]()
        self._good_accepts = {b"*/*"}
        self._max_body = settings.max_body_bytes
        self._for_the_twin = _FOR_THE_TWIN | ({b"origin"} if settings.cors_origins else set())
        self._routes: dict[tuple[str, str], Hot] = (
            {}
            if not settings.is_open
            else {
                ("GET", LISTS): self._list,
                ("POST", RATING): self._rating,
                ("POST", EVENTS): self._event,
                ("POST", FEEDBACK): self._event,
            }
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Receive | None:
        """Answer the request and return None, or return what the twin shall receive from."""
        route = self._routes.get((scope["method"], scope["path"]))
        return receive if route is None else await route(scope, receive, send)

    async def _list(self, scope: Scope, receive: Receive, send: Send) -> Receive | None:
        start, headers = time.perf_counter(), self._plain_headers(scope)
        if headers is None or not self._has_reached(headers.get(b"x-position")):
            return receive
        asked = self._lists.asked(scope["query_string"], headers.get(b"accept-language", b""))
        if asked is None:
            return receive
        try:
            answer = self._lists.answer(asked)
        except Exception:  # noqa: BLE001 (the twin fails the same way and says so)
            return receive
        request_id = _request_id(headers)
        body = b"%b%b%b" % (answer.head, request_id.encode(), answer.tail)
        await self._send(send, 200, body, request_id)
        self._note_shown(request_id, answer.shown)
        if self._audience.shadow.share:
            self._audience.shadow.consider(request_id, answer.shown, asked.k)
        self._journal.note("GET", LISTS, 200, start, request_id)
        for counted in answer.counts:
            TALLY.count(counted)
        return None

    async def _rating(self, scope: Scope, receive: Receive, send: Send) -> Receive | None:
        start, headers = time.perf_counter(), self._plain_headers(scope)
        if headers is None:
            return receive
        film, again = await self._body(MovieIn, headers, receive)
        if film is None:
            return again
        request_id = _request_id(headers)
        try:
            body = _encode(rating_answer(self._services, film, request_id))
        except Exception:  # noqa: BLE001 (the twin fails the same way and says so)
            return again
        await self._send(send, 200, body, request_id)
        self._journal.note("POST", RATING, 200, start, request_id)
        return None

    async def _event(self, scope: Scope, receive: Receive, send: Send) -> Receive | None:
        start, headers = time.perf_counter(), self._plain_headers(scope)
        if headers is None or self._traffic.in_flight >= self._traffic.most:
            return receive
        schema = InteractionIn if scope["path"] == EVENTS else FeedbackIn
        event, again = await self._body(schema, headers, receive)
        if event is None or self._buckets.take(scope["client"][0] if scope["client"] else ""):
            return again
        request_id, key = _request_id(headers), headers.get(b"idempotency-key")
        name = key.decode("latin-1") if key is not None else None
        self._traffic.in_flight += 1
        try:
            made = await record(event, name, self._services, self._publisher)
            status, body = 202, _encode(made)
            more = [_JSON_TYPE, (b"x-position", made["position"].encode())]
        except Exception as error:  # noqa: BLE001 (translated as for the twin)
            answer = answer_of(error, scope["path"], request_id)
            status, body = answer.status_code, bytes(answer.body)
            more = [pair for pair in answer.raw_headers if pair[0] != b"content-length"]
        finally:
            self._traffic.in_flight -= 1
        await self._send(send, status, body, request_id, more)
        self._journal.note("POST", scope["path"], status, start, request_id)
        return None

    async def _send(
        self, send: Send, status: int, body: bytes, request_id: str, more: RawHeaders = _AS_JSON
    ) -> None:
        headers = [(b"content-length", b"%d" % len(body)), *more]
        headers += self._traffic.headers(request_id)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _plain_headers(self, scope: Scope) -> Headers | None:
        """The headers; None where one is there that only the twin understands."""
        headers: Headers = dict(scope["headers"])
        if len(headers) != len(scope["headers"]) or not self._for_the_twin.isdisjoint(headers):
            return None
        host = headers.get(b"host", b"")
        if host not in self._good_hosts:
            try:
                check_host(host, self._hosts)
            except RequestRefusedError:
                return None
            if len(self._good_hosts) < _MOST_HOSTS:
                self._good_hosts.add(host)
        return headers if self._is_accepted(headers.get(b"accept", b"*/*")) else None

    def _is_accepted(self, accept: bytes) -> bool:
        if accept in self._good_accepts:
            return True
        taken = takes_json(accept)
        if taken and len(self._good_accepts) < _MOST_HOSTS:
            self._good_accepts.add(accept)
        return taken

    def _has_reached(self, position: bytes | None) -> bool:
        """Whether nothing has to be waited for."""
        if position is None:
            return True
        try:
            return self._services.histories.has_applied(parse_position(position.decode("latin-1")))
        except EventError:
            return False

    async def _body(
        self, schema: type[Body], headers: Headers, receive: Receive
    ) -> tuple[Body | None, Receive]:
        """What a plain body says; None with what the twin shall receive from else."""
        message = await receive() if _JSON.fullmatch(headers.get(b"content-type", b"")) else None
        if message is None:
            return None, receive
        again = _again(message, receive)
        if message["type"] != "http.request" or message.get("more_body"):
            return None, again
        body = message["body"]
        deep = body.count(b"[") + body.count(b"{") > MAX_DEPTH
        length = headers.get(b"content-length", b"0")
        if deep or max(len(body), int(length) if length.isdigit() else 0) > self._max_body:
            return None, again
        try:
            return schema.model_validate_json(body), again
        except ValueError:  # no JSON, or not what the schema wants
            return None, again


def _again(first: Message, receive: Receive) -> Receive:
    """Give the message that was already taken once more, then what comes."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return first

    return replayed


def _request_id(headers: Headers) -> str:
    given = headers.get(b"x-request-id")
    return given.decode() if given is not None and is_request_id(given) else new_request_id()
