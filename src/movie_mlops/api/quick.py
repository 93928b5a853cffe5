"""Whole requests answered while their bytes are read: no task, no ASGI messages in between."""

import re
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

_CLOSE = b"connection: close\r\n"
_BY_PROXY = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})
_ONCE = frozenset({b"idempotency-key", b"transfer-encoding", b"x-position", b"x-request-id"})
_FIRST_LINE = re.compile(rb"(GET|POST) (/[a-z0-9/-]+)(?:\?([A-Za-z0-9_.=&-]*))? HTTP/1\.1")
_MOST_HEADS, _LONGEST_HEAD = 1_000, 2_000

Headers = dict[bytes, bytes]
Reply = Callable[[int, bytes, bytes], None]
"""Takes the answer: status, its headers as lines that all end, body."""


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as the lines that they are sent as."""
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])


class Asked(NamedTuple):
    """A whole request with plain headers; `start` is of the performance counter."""

    path: str
    query: bytes
    headers: Headers
    body: bytes
    client: str
    start: float


class Heads:
    """The headers of requests that hot routes answered, by their bytes.

    A program sends the same ones with each request: then they mean the same again, and are not
    parsed, split and checked once more. Few at most, and short.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, Headers]] = {}

    def learn(self, data: bytes, headers: Headers, body: bytes) -> None:
        """`data` was one whole request, with these headers and this body."""
        head, end, rest = data.partition(b"\r\n\r\n")
        lines = head.partition(b"\r\n")[2]
        length = headers.get(b"content-length", b"0")
        same = end and rest == body and length.isdigit() and int(length) == len(body)
        if same and len(lines) <= _LONGEST_HEAD and _ONCE.isdisjoint(headers):
            if len(self._known) >= _MOST_HEADS:
                self._known.clear()
            self._known[lines] = len(body), headers

    def read(self, data: bytes) -> tuple[str, str, bytes, Headers, bytes] | None:
        """Method, path, query, headers and body of one whole request with known headers."""
        head, _, body = data.partition(b"\r\n\r\n")
        first, _, lines = head.partition(b"\r\n")
        known = self._known.get(lines)
        if known is None or known[0] != len(body):
            return None
        match = _FIRST_LINE.fullmatch(first)
        if match is None:
            return None
        method, path, query = match.groups(b"")
        return method.decode(), path.decode(), query, known[1], body


class Quick(Protocol):
    """Routes that answer a whole request at once, without ASGI's messages; the hot ones."""

    paths: frozenset[bytes]
    heads: Heads

    def plain_headers(self, scope: Scope) -> Headers | None:
        """The headers; None where the application has to answer."""
        ...

    def take(self, method: str, asked: Asked, reply: Reply) -> bool:
        """Answer through `reply`, now or as soon as it is known; False: the application has to."""
        ...


class _Answering:
    """Stands where uvicorn keeps the request that is being answered; takes its answer."""

    __slots__ = ("_protocol", "disconnected", "keep_alive", "response_complete")

    def __init__(self, protocol: "QuickProtocol") -> None:
        self._protocol = protocol
        self.disconnected = self.response_complete = False
        self.keep_alive = True

    def __call__(self, status: int, lines: bytes, body: bytes) -> None:
        """See Reply."""
        self.response_complete = True
        if not self.keep_alive and not lines.endswith(_CLOSE):
            lines += _CLOSE
        if not self.disconnected:
            self._protocol.answer(status, lines, body)

    @property
    def message_event(self) -> "_Answering":
        """What uvicorn sets when something has come."""
        return self

    def set(self) -> None:
        """Nobody waits for it."""


class QuickProtocol(HttpToolsProtocol):
    """HTTP/1.1 that asks the hot routes of its application first.

    Only for a request that came whole, on a connection where nothing else is being answered, and
    for one in each piece of data: whoever sends many at once lets others have their turn. All
    else goes uvicorn's way.
    """

    _hot: Quick | None = None
    _held: bytearray | None = None  # the body so far, of a request that uvicorn was not told of
    _data = b""  # what has come now, while it may be one whole request
    _has_turn = False
    _between = True  # the parser stands between two requests
    _rests_since = 0.0
    _defaults: tuple[object, bytes] = (None, b"")

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        self._hot = hot = getattr(self.config.app, "hot", None)
        if hot is not None and self._between and self._has_room():
            if self._is_known(hot, data):
                return
            self._data = data
        self._has_turn = True
        super().data_received(data)
        self._data = b""
        if self._held is not None:  # the rest of its body comes later
            self._go_the_long_way()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head of a request is whole."""
        if self._has_turn and self._hot is not None and self._may_be_hot(self._hot):
            self._held = bytearray()
        else:
            self.begin()

    def begin(self) -> None:
        """Let uvicorn begin with the request."""
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body has come."""
        if self._held is None:
            super().on_body(body)
        else:
            self._held += body

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._between = True
        if self._held is not None:
            body, self._has_turn = bytes(self._held), False
            if self._hot is not None and self._is_taken(self._hot, body):
                self._held = None
                return
            self._go_the_long_way()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A request was answered: the next one, or a while of silence, may come.

        uvicorn takes a new timer each time; here one that rings early looks how long it was.
        """
        self._rests_since = self.loop.time()
        if self.timeout_keep_alive_task is None or self.pipeline or self.transport.is_closing():
            super().on_response_complete()
        else:
            self.server_state.total_requests += 1

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection that was silent for long enough."""
        left = self._rests_since + self.timeout_keep_alive - self.loop.time()
        if not self.transport.is_closing() and (self._is_busy() or left > 0):
            self.timeout_keep_alive_task = self.loop.call_later(
                left if left > 0 else self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        else:
            super().timeout_keep_alive_handler()

    def answer(self, status: int, lines: bytes, body: bytes) -> None:
        """Send the answer to a request that a hot route has taken."""
        if self.transport.is_closing():
            return
        defaults = self.server_state.default_headers
        if defaults is not self._defaults[0]:  # uvicorn makes a new list each second
            self._defaults = defaults, lines_of(defaults)
        self.transport.write(
            b"%b%b%b\r\n%b" % (STATUS_LINE[status], self._defaults[1], lines, body)
        )
        if lines.endswith(_CLOSE):
            self.transport.close()
        self.on_response_complete()

    def _is_busy(self) -> bool:
        """Whether a request is being answered."""
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete

    def _has_room(self) -> bool:
        """Whether a request may be answered at once: it is the only one, and its answer is read."""
        return not self._is_busy() and not self.flow.write_paused

    def _is_known(self, hot: Quick, data: bytes) -> bool:
        """Whether this was one whole request with known headers, and is answered, or will be."""
        known = hot.heads.read(data)
        if known is None or self.root_path or self.transport.is_closing():
            return False
        return self._is_given(hot, *known)

    def _may_be_hot(self, hot: Quick) -> bool:
        path, _, query = self.url.partition(b"?")
        if path not in hot.paths or b"#" in query or self.root_path:
            return False
        if not self._has_room() or self.expect_100_continue:
            return False
        parser = self.parser
        if parser.get_http_version() != "1.1" or not parser.should_keep_alive():
            return False
        scope: Any = self.scope
        scope["method"], scope["path"] = parser.get_method().decode("ascii"), path.decode("ascii")
        scope["raw_path"], scope["query_string"] = path, query
        return not parser.should_upgrade() and _BY_PROXY.isdisjoint(dict(self.headers))

    def _is_taken(self, hot: Quick, body: bytes) -> bool:
        scope = cast("Scope", self.scope)
        headers = hot.plain_headers(scope)
        if headers is None:
            return False
        request = (scope["method"], scope["path"], scope["query_string"], headers, body)
        if not self._is_given(hot, *request):
            return False
        hot.heads.learn(self._data, headers, body)
        return True

    def _is_given(
        self, hot: Quick, method: str, path: str, query: bytes, headers: Headers, body: bytes
    ) -> bool:
        start, client = time.perf_counter(), self.client[0] if self.client else ""
        answering, before = _Answering(self), self.cycle
        self.cycle = cast("Any", answering)
        if hot.take(method, Asked(path, query, headers, body, client, start), answering):
            return True
        self.cycle = before
        return False

    def _go_the_long_way(self) -> None:
        body, self._held = self._held, None
        self.begin()
        if body:
            super().on_body(bytes(body))
