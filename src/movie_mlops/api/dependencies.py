"""Everything that a router may ask for, and who may ask."""

import asyncio
import hmac
import time
from collections import OrderedDict
from typing import Annotated, Any

import httpx
import msgspec
from fastapi import Depends, Header, Query, Request, Response

from movie_mlops.api.errors import KeyRequiredError, TooManyWritesError, request_id_of
from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.domain.interactions import UserId, parse_user_id
from movie_mlops.events.base import parse_position
from movie_mlops.models.serving.posters import Language
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.monitoring.metrics import RATE_LIMITED
from movie_mlops.settings import Settings

POSITION_WAIT_SECONDS = 1.0
_KEPT_CLIENTS = 10_000
_FORWARDED = ("content-type", "x-api-key", "accept-language")
_encode = msgspec.json.Encoder().encode


class JsonBytes(Response):
    """An answer that is encoded at once: no second validation of what we made ourselves."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The JSON of plain values, dataclasses and structs."""
        return _encode(content)


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
        url = settings.control_url
        if url.startswith("unix:"):
            transport = httpx.AsyncHTTPTransport(uds=str(settings.path(url)))
            self._client = httpx.AsyncClient(transport=transport, base_url="http://worker")
        else:
            self._client = httpx.AsyncClient(base_url=url)
        self._timeout = settings.request_timeout_seconds * 0.9

    async def forward(self, request: Request) -> Response:
        """The worker's answer to this request.

        Raises:
            EngineUnavailableError: no worker answers (yet).
        """
        headers = {name: value for name in _FORWARDED if (value := request.headers.get(name))}
        headers["x-request-id"] = request_id_of(request)
        target = request.scope["raw_path"].decode("ascii", "replace")
        if request.url.query:
            target += f"?{request.url.query}"
        try:
            answer = await self._client.request(
                request.method,
                target,
                content=await request.body(),
                headers=headers,
                timeout=self._timeout,
            )
        except httpx.HTTPError as error:
            raise _no_worker() from error
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
            await self._client.get("/health", timeout=0.5)
        except httpx.HTTPError as error:
            raise _no_worker() from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


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


async def require_admin(
    request: Request, x_api_key: Annotated[str | None, Header(max_length=512)] = None
) -> None:
    """Let only the holder of the admin key in.

    Raises:
        KeyRequiredError: no key, another key, or this house has none.
    """
    settings: Settings = request.app.state.settings
    key = settings.admin_api_key
    given = (x_api_key or "").encode()
    if key is None or not hmac.compare_digest(given, key.get_secret_value().encode()):
        message = (
            "this needs the admin key in the header X-API-Key; it lies in the house's .env as "
            "MOVIE_MLOPS_ADMIN_API_KEY (`movie-mlops up` makes one)"
        )
        raise KeyRequiredError(message)


async def limit_writes(request: Request) -> None:
    """Bound how fast one client writes.

    Raises:
        TooManyWritesError: the client's bucket is empty.
    """
    buckets: TokenBuckets = request.app.state.buckets
    wait = buckets.take(request.client.host if request.client else "")
    if wait:
        RATE_LIMITED.inc()
        message = "too many writes from this address; wait as long as Retry-After says"
        raise TooManyWritesError(message, wait)


async def get_language(
    lang: Annotated[Language | None, Query(description="Language of titles and reasons.")] = None,
    accept_language: Annotated[str | None, Header()] = None,
) -> Language:
    """`lang=`, else what Accept-Language likes best, else English."""
    if lang is not None:
        return lang
    best: tuple[float, Language] = (0.0, "en")
    for part in (accept_language or "")[:200].split(","):
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
    user_id: Annotated[str | None, Query(description="Whose list; nobody's when left out.")] = None,
) -> UserId | None:
    """The viewer of the query.

    Raises:
        InvalidIdError: the text can be no user id.
    """
    return None if user_id is None else parse_user_id(user_id)


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
ADMIN = Depends(require_admin)
WRITE = Depends(limit_writes)
POSITION = Depends(wait_for_position)
