"""The gate, as plain ASGI: what is turned away before any work is done for it."""

import asyncio
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from movie_mlops.api.errors import (
    BodyTooLargeError,
    ForeignHostError,
    HeadersTooLargeError,
    IncompleteBodyError,
    InvalidRequestError,
    MissingHostError,
    NotAcceptableError,
    RequestRefusedError,
    SlowBodyError,
    UnsupportedBodyError,
    UrlTooLongError,
    problem_of,
)
from movie_mlops.settings import Settings

MAX_DEPTH = 32
MAX_URL_BYTES = 16_384
MAX_HEADER_BYTES = 32_768
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_JSON = re.compile(rb"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_JSON_ONLY = ("/api/", "/predict/", "/batch-predict", "/model/", "/mlflow/", "/v2", "/health")
_JSON_RANGES = frozenset({b"application/json", b"application/*", b"*/*", b"*"})
_NO_QUALITY = re.compile(rb"q=0(?:\.0*)?")


class Gate:
    """Turns away foreign hosts and bodies that are too large, too deep or no JSON."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hosts = hosts_of(settings)
        self._max_body = settings.max_body_bytes
        self._body_seconds = settings.request_timeout_seconds / 2

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = dict(scope["headers"])
            check_host(headers.get(b"host"), self._hosts)
            _check_size(scope)
            if scope["path"].startswith(_JSON_ONLY) and not takes_json(headers.get(b"accept")):
                message = "this address answers application/json; name it in Accept"
                raise NotAcceptableError(message)
            if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
                receive = _replay(await self._body(headers, receive), receive)
        except RequestRefusedError as error:
            answer = problem_of(error, scope["path"], scope["state"]["request_id"])
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

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


def hosts_of(settings: Settings) -> frozenset[str]:
    """The names that a Host header may have."""
    return frozenset(host.lower() for host in settings.allowed_hosts)


def check_host(header: bytes | None, hosts: frozenset[str]) -> None:
    """Let only requests in that mean this server (against DNS rebinding).

    Raises:
        MissingHostError: there is no Host header.
        ForeignHostError: it names somebody else.
    """
    if not header:
        message = "send a Host header"
        raise MissingHostError(message)
    host = header.decode("latin-1").lower()
    name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
    if name not in hosts and "*" not in hosts:
        message = (
            f"this server is not {name[:80]!r}; "
            "add the name to MOVIE_MLOPS_ALLOWED_HOSTS if it should be"
        )
        raise ForeignHostError(message)


def _check_size(scope: Scope) -> None:
    if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_URL_BYTES:
        message = f"an address may have {MAX_URL_BYTES} bytes"
        raise UrlTooLongError(message)
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        message = f"all headers together may have {MAX_HEADER_BYTES} bytes"
        raise HeadersTooLargeError(message)


def takes_json(accept: bytes | None) -> bool:
    """Whether an Accept header lets JSON through; without one everything does."""
    for part in (accept or b"*/*").lower().split(b","):
        name, *parameters = (each.strip() for each in part.split(b";"))
        if name in _JSON_RANGES and not any(_NO_QUALITY.fullmatch(each) for each in parameters):
            return True
    return False


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
