"""Everything that a router may ask for, and who may ask."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import blake2b
from importlib import import_module
from math import ceil
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import Depends, Header, Query, Request, Response

from movie_mlops.api.access import may_see, must_have
from movie_mlops.api.errors import TooManyWritesError, request_id_of
from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.domain.interactions import UserId, parse_user_id
from movie_mlops.events.base import parse_position
from movie_mlops.models.serving.posters import Language
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.monitoring.metrics import RATE_LIMITED
from movie_mlops.settings import Settings

if TYPE_CHECKING:
    import httpx

POSITION_WAIT_SECONDS = 1.0
CLIENT_LEFT = 499
_KEPT_CLIENTS = 10_000
_FORWARDED = ("content-type", "x-api-key", "accept-language")
_encode = msgspec.json.Encoder().encode
MaySee = Callable[[str | None], None]
"""Raises for a user id that the caller's key is not bound to."""
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "The client has this version (If-None-Match)."}
}


class JsonBytes(Response):
    """An answer that is encoded at once: no second validation of what we made ourselves."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The JSON of plain values, dataclasses and structs."""
        return _encode(content)


def tagged(request: Request, content: Any, headers: Mapping[str, str] | None = None) -> Response:
    """The JSON of `content` with an ETag of its bytes; 304 where the client has it."""
    body = content if isinstance(content, bytes) else _encode(content)
    return tagged_bytes(request, body, "application/json", dict(headers or {}))


def tagged_bytes(
    request: Request, body: bytes, media_type: str, headers: dict[str, str]
) -> Response:
    """The body with a strong ETag; 304 without it where If-None-Match names the tag."""
    tag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"Cache-Control": "no-cache"} | headers | {"ETag": tag}
    wanted = request.headers.get("if-none-match", "")
    if wanted == "*" or tag in [each.strip().removeprefix("W/") for each in wanted.split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


class TokenBuckets:
    """`per_minute` writes per client on average, `burst` at once."""

    def __init__(self, per_minute: int, burst: int) -> None:
        self._rate, self._burst = per_minute / 60.0, float(burst)
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """Take one; 0 when there was one, else the seconds until there is."""
        now = time.monotonic()
        tokens, at = self._clients.get(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        taken = tokens >= 1.0
        self._clients[client] = (tokens - 1.0 if taken else tokens, now)
        self._clients.move_to_end(client)
        if len(self._clients) > _KEPT_CLIENTS:
            self._clients.popitem(last=False)
        return 0.0 if taken else (1.0 - tokens) / self._rate


class WorkerClient:
    """Hands requests on to the worker, which alone speaks Feast, MLflow and the runner."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: httpx.AsyncClient | None = None

    async def forward(self, request: Request) -> Response:
        """The worker's answer to this request; given up when the client leaves or time is up.

        Raises:
            EngineUnavailableError: no worker answers (yet).
        """
        headers = {name: value for name in _FORWARDED if (value := request.headers.get(name))}
        headers["x-request-id"] = request_id_of(request)
        left = max(request.state.deadline - time.monotonic(), 0.001)
        headers["x-deadline-ms"] = str(ceil(1000 * left))
        target = request.scope["raw_path"].decode("ascii", "replace")
        if request.url.query:
            target += f"?{request.url.query}"
        client = await self._opened()
        asking = asyncio.ensure_future(
            client.request(
                request.method,
                target,
                content=await request.body(),
                headers=headers,
                timeout=0.9 * left,  # so that there is time to say so
            )
        )
        leaving = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait((asking, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                return Response(status_code=CLIENT_LEFT)  # nobody reads it
            answer = asking.result()
        except _httpx().HTTPError as error:
            raise _no_worker() from error
        finally:
            asking.cancel()
            leaving.cancel()
        kept = {"content-type": answer.headers.get("content-type", "application/json")}
        if "retry-after" in answer.headers:
            kept["retry-after"] = answer.headers["retry-after"]
        return Response(answer.content, answer.status_code, kept)

    async def ping(self) -> None:
        """Return when the worker answers.

        Raises:
            EngineUnavailableError: it does not.
        """
        try:
            await (await self._opened()).get("/health", timeout=0.5)
        except _httpx().HTTPError as error:
            raise _no_worker() from error

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _opened(self) -> "httpx.AsyncClient":
        if self._client is None:
            await asyncio.to_thread(_httpx)
        if self._client is None:  # nobody else was quicker
            url = self._settings.control_url
            if url.startswith("unix:"):
                transport = _httpx().AsyncHTTPTransport(uds=str(self._settings.path(url)))
                self._client = _httpx().AsyncClient(transport=transport, base_url="http://worker")
            else:
                self._client = _httpx().AsyncClient(base_url=url)
        return self._client


def _httpx() -> Any:
    """The library; it takes a third of a second to load, so it does not hold up the start."""
    return import_module("httpx")


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _no_worker() -> EngineUnavailableError:
    message = "the worker does not answer (it needs some seconds after `up`); try again"
    return EngineUnavailableError(message, retry_after_seconds=2.0)


async def get_services(request: Request) -> ApiServices:
    """The open services of this process."""
    services: ApiServices = request.app.state.services
    return services


async def get_worker(request: Request) -> WorkerClient:
    """The way to the worker."""
    worker: WorkerClient = request.app.state.worker
    return worker


async def require_read(request: Request) -> None:
    """Let in who may read: anybody where reads are open, else a key with the scope.

    Raises:
        KeyRequiredError: no key where one is needed, or an unknown one.
        ScopeMissingError: the key is for something else.
    """
    must_have(request, "read")


async def require_admin(request: Request) -> None:
    """Let only a key with the scope `admin` in.

    Raises:
        KeyRequiredError: no key or an unknown one.
        ScopeMissingError: the key is for something else.
    """
    must_have(request, "admin")


async def limit_writes(request: Request) -> None:
    """Let in who may write, and bound how fast one key, or one address without one, does.

    Raises:
        KeyRequiredError: no key where one is needed, or an unknown one.
        ScopeMissingError: the key is for reading only.
        TooManyWritesError: the caller's bucket is empty.
    """
    caller = must_have(request, "write")
    buckets: TokenBuckets = request.app.state.buckets
    address = request.client.host if request.client else ""
    wait = buckets.take(f"key {caller.name}" if caller.name else address)
    if wait:
        RATE_LIMITED.inc()
        message = "too many writes by this caller; wait as long as Retry-After says"
        raise TooManyWritesError(message, wait)


async def get_language(
    lang: Annotated[Language | None, Query(description="Language of titles and reasons.")] = None,
    accept_language: Annotated[str | None, Header()] = None,
) -> Language:
    """`lang=`, else what Accept-Language likes best, else English."""
    return lang if lang is not None else liked_language(accept_language or "")


def liked_language(accept_language: str) -> Language:
    """What an Accept-Language header likes best of what there is, else English."""
    best: tuple[float, Language] = (0.0, "en")
    for part in accept_language[:200].split(","):
        name, _, weight = part.strip().partition(";q=")
        code = name[:2].lower()
        if code in ("ko", "en"):
            quality = _quality(weight)
            if quality > best[0]:
                best = (quality, "ko" if code == "ko" else "en")
    return best[1]


def _quality(text: str) -> float:
    try:
        return min(float(text), 1.0) if text else 1.0
    except ValueError:
        return 0.0


async def get_user(
    request: Request,
    user_id: Annotated[str | None, Query(description="Whose list; nobody's when left out.")] = None,
) -> UserId | None:
    """The viewer of the query.

    Raises:
        InvalidIdError: the text can be no user id.
        ForeignUserError: the caller's key is bound to another viewer.
    """
    viewer = None if user_id is None else parse_user_id(user_id)
    may_see(request, viewer)
    return viewer


async def get_caller_sight(request: Request) -> MaySee:
    """Refuses user ids that the caller may not see; for those that come in a body or a path."""
    return partial(may_see, request)


async def wait_for_position(
    services: Annotated[ApiServices, Depends(get_services)],
    x_position: Annotated[
        str | None, Header(description="Position of a 202: wait until this replica knows it.")
    ] = None,
) -> None:
    """Wait at most a second until the histories hold the event at this position.

    Raises:
        EventError: the header is no position.
    """
    if x_position is None:
        return
    position = parse_position(x_position)
    give_up = time.monotonic() + POSITION_WAIT_SECONDS
    # the histories are fed by a thread, so there is no asyncio event to wait for
    while not services.histories.has_applied(position) and time.monotonic() < give_up:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


Services = Annotated[ApiServices, Depends(get_services)]
Worker = Annotated[WorkerClient, Depends(get_worker)]
LanguageOf = Annotated[Language, Depends(get_language)]
UserOf = Annotated[UserId | None, Depends(get_user)]
ListLength = Annotated[int, Query(ge=1, le=100, description="Length of the list.")]
MaySeeOf = Annotated[MaySee, Depends(get_caller_sight)]
READ = Depends(require_read)
ADMIN = Depends(require_admin)
WRITE = Depends(limit_writes)
POSITION = Depends(wait_for_position)
