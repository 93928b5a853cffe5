"""The routes that are asked most, as plain ASGI: the same answers at a tenth of the cost.

Each has its FastAPI route as a twin, which owns the OpenAPI entry and every request that is not
plain: unusual headers or queries, bodies that break their schema, errors. What a hot route cannot
answer with a success it hands on untouched. A test sends the same requests through both.
"""

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel
from starlette.types import Message, Receive, Scope, Send

from movie_mlops.api.dependencies import TokenBuckets
from movie_mlops.api.errors import RequestRefusedError
from movie_mlops.api.gate import MAX_DEPTH, check_host, hosts_of, takes_json
from movie_mlops.api.hot_lists import ReadyLists
from movie_mlops.api.middleware import Journal, Traffic, answer_of, is_request_id
from movie_mlops.api.quick import Asked, Headers, Heads, Reply, lines_of
from movie_mlops.api.routers.events import Publisher, begin, finish, is_one_id
from movie_mlops.api.routers.predictions import rating_answer
from movie_mlops.api.schemas.events import FeedbackIn, InteractionIn, Said, read_plain
from movie_mlops.api.schemas.predictions import MovieIn, plain_facts
from movie_mlops.domain.errors import EventError
from movie_mlops.domain.interactions import Interaction
from movie_mlops.domain.requests import new_request_id
from movie_mlops.events.base import Published, parse_position
from movie_mlops.models.serving.predictor import MovieFacts
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.monitoring.metrics import TALLY
from movie_mlops.settings import Settings

LISTS, RATING = "/api/v1/recommendations", "/predict/movie"
EVENTS, FEEDBACK = "/api/v1/events/user-interaction", "/api/v1/feedback"
_FOR_THE_TWIN = frozenset(
    {b"authorization", b"content-encoding", b"expect", b"x-api-key", b"x-deadline-ms"}
)
_JSON = re.compile(rb"application/json(?:; ?charset=utf-8)?", re.IGNORECASE)
_AS_JSON = b"content-type: application/json\r\n"
_MOST_HOSTS = 100  # and Accept headers, that are known to be good
_encode = msgspec.json.Encoder().encode

Body = TypeVar("Body", bound=BaseModel)


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
        self._routes: dict[tuple[str, str], Callable[[Asked, Reply], bool]] = (
            {}
            if not settings.is_open
            else {
                ("GET", LISTS): self._list,
                ("POST", RATING): self._rating,
                ("POST", EVENTS): self._event,
                ("POST", FEEDBACK): self._event,
            }
        )
        self.paths = frozenset(path.encode() for _, path in self._routes)
        self.heads = Heads()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Receive | None:
        """Answer the request and return None, or return what the twin shall receive from."""
        method, path = scope["method"], scope["path"]
        headers = self.plain_headers(scope) if (method, path) in self._routes else None
        if headers is None:  # the twin may not want to hear the body
            return receive
        body = b""
        if method == "POST":
            message = await receive()
            receive = _again(message, receive)
            if message["type"] != "http.request" or message.get("more_body"):
                return receive
            body = message["body"]
        answered: asyncio.Future[tuple[int, bytes, bytes]] = (
            asyncio.get_running_loop().create_future()
        )

        def reply(*answer: Any) -> None:
            if not answered.done():
                answered.set_result(answer)

        client = (scope.get("client") or ("",))[0]
        asked = Asked(path, scope["query_string"], headers, body, client, time.perf_counter())
        if not self.take(method, asked, reply):
            return receive
        status, lines, body = await answered
        pairs = [tuple(line.split(b": ", 1)) for line in lines.splitlines()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})
        return None

    def take(self, method: str, asked: Asked, reply: Reply) -> bool:
        """See Quick; False: the twin has to."""
        route = self._routes.get((method, asked.path))
        return route is not None and route(asked, reply)

    def _list(self, asked: Asked, reply: Reply) -> bool:
        headers = asked.headers
        if not self._has_reached(headers.get(b"x-position")):
            return False
        wanted = self._lists.asked(asked.query, headers.get(b"accept-language", b""))
        if wanted is None:
            return False
        try:
            answer = self._lists.answer(wanted)
        except Exception:  # noqa: BLE001 (the twin fails the same way and says so)
            return False
        request_id = _request_id(headers)
        body = b"%b%b%b" % (answer.head, request_id.encode(), answer.tail)
        reply(200, self._lines(body, request_id), body)
        self._note_shown(request_id, answer.shown)
        if self._audience.shadow.share:
            self._audience.shadow.consider(request_id, answer.shown, wanted.k)
        self._journal.note("GET", LISTS, 200, asked.start, request_id)
        for counted in answer.counts:
            TALLY.count(counted)
        return True

    def _rating(self, asked: Asked, reply: Reply) -> bool:
        film = self._film(asked)
        if film is None:
            return False
        request_id = _request_id(asked.headers)
        try:
            body = _encode(rating_answer(self._services, film, request_id))
        except Exception:  # noqa: BLE001 (the twin fails the same way and says so)
            return False
        reply(200, self._lines(body, request_id), body)
        self._journal.note("POST", RATING, 200, asked.start, request_id)
        return True

    def _event(self, asked: Asked, reply: Reply) -> bool:
        path = asked.path
        if self._traffic.in_flight >= self._traffic.most:
            return False
        body = self._said(asked)
        key = asked.headers.get(b"idempotency-key")
        name = key.decode("latin-1") if key is not None else None
        if body is None or not is_one_id(body.event_id, name):
            return False
        if self._buckets.take(asked.client):
            return False
        request_id = _request_id(asked.headers)

        def done(published: Published | BaseException) -> None:
            self._traffic.in_flight -= 1
            status, text, more = self._told(act, published, path, request_id)
            reply(status, self._lines(text, request_id, more), text)
            self._journal.note("POST", path, status, asked.start, request_id)

        try:
            act = begin(body, name, self._publisher, done)
        except Exception:  # noqa: BLE001 (the twin fails the same way and says so)
            return False
        self._traffic.in_flight += 1
        return True

    def _told(
        self, act: Interaction, published: Published | BaseException, path: str, request_id: str
    ) -> tuple[int, bytes, bytes]:
        """Status, body and lines of headers for whoever did it."""
        try:
            if isinstance(published, BaseException):
                raise published
            made = finish(act, published, self._services)
        except Exception as error:  # noqa: BLE001 (translated as for the twin)
            answer = answer_of(error, path, request_id)
            pairs = [pair for pair in answer.raw_headers if pair[0] != b"content-length"]
            return answer.status_code, bytes(answer.body), lines_of(pairs)
        return 202, _encode(made), b"%bx-position: %b\r\n" % (_AS_JSON, made["position"].encode())

    def _lines(self, body: bytes, request_id: str, more: bytes = _AS_JSON) -> bytes:
        return b"content-length: %d\r\n%b%b" % (len(body), more, self._traffic.lines(request_id))

    def plain_headers(self, scope: Scope) -> Headers | None:
        """See Quick; None where one is there that only the twin understands."""
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

    def _said(self, asked: Asked) -> Said | None:
        """What a plain body of an event or of feedback says."""
        if not self._is_json(asked):
            return None
        is_feedback = asked.path == FEEDBACK
        said = read_plain(asked.body, is_feedback=is_feedback)
        if said is not None:
            return said
        return self._checked(FeedbackIn if is_feedback else InteractionIn, asked.body)

    def _film(self, asked: Asked) -> MovieFacts | None:
        """What a plain body says of a film; None where it does not."""
        if not self._is_json(asked):
            return None
        facts = plain_facts(asked.body)
        if facts is not None:
            return facts
        film = self._checked(MovieIn, asked.body)
        return film.to_facts() if film is not None else None

    @staticmethod
    def _checked(schema: type[Body], body: bytes) -> Body | None:
        try:
            return schema.model_validate_json(body)
        except ValueError:  # no JSON, or not what the schema wants
            return None

    def _is_json(self, asked: Asked) -> bool:
        """Whether the body may be JSON of the house: its type, its depth, its size."""
        headers, body = asked.headers, asked.body
        kind = headers.get(b"content-type", b"")
        if kind != b"application/json" and not _JSON.fullmatch(kind):
            return False
        length = headers.get(b"content-length", b"0")
        size = max(len(body), int(length) if length.isdigit() else 0)
        return size <= self._max_body and body.count(b"[") + body.count(b"{") <= MAX_DEPTH


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
