"""Whole requests answered while their bytes are read: no task, no ASGI messages in between."""

from collections.abc import Callable
from typing import Any, Protocol, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

_CLOSE = (b"connection", b"close")
_BY_PROXY = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})
RawHeaders = list[tuple[bytes, bytes]]
Reply = Callable[[int, RawHeaders, bytes], None]
"""Takes the answer: status, headers, body."""


class Quick(Protocol):
    """Routes that answer a whole request at once, without ASGI's messages; the hot ones."""

    paths: frozenset[bytes]

    def take(self, scope: Scope, body: bytes, reply: Reply) -> bool:
        """Answer through `reply`, now or as soon as it is known; False: the application has to."""
        ...


class _Answering:
    """Stands where uvicorn keeps the request that is being answered."""

    __slots__ = ("disconnected", "keep_alive", "response_complete")

    def __init__(self) -> None:
        self.disconnected = self.response_complete = False
        self.keep_alive = True

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
    _has_turn = False

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        self._has_turn = True
        self._hot = getattr(self.config.app, "hot", None)
        super().data_received(data)
        if self._held is not None:  # the rest of its body comes later
            self._go_the_long_way()

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
        if self._held is not None:
            body, self._has_turn = bytes(self._held), False
            if self._is_taken(body):
                self._held = None
                return
            self._go_the_long_way()
        super().on_message_complete()

    def _may_be_hot(self, hot: Quick) -> bool:
        path, _, query = self.url.partition(b"?")
        if path not in hot.paths or b"#" in query or self.root_path:
            return False
        cycle: Any = self.cycle  # None before the first request
        busy = cycle is not None and not cycle.response_complete
        if busy or self.flow.write_paused or self.expect_100_continue:
            return False
        parser = self.parser
        if parser.get_http_version() != "1.1" or not parser.should_keep_alive():
            return False
        scope: Any = self.scope
        scope["method"], scope["path"] = parser.get_method().decode("ascii"), path.decode("ascii")
        scope["raw_path"], scope["query_string"] = path, query
        return not parser.should_upgrade() and _BY_PROXY.isdisjoint(dict(self.headers))

    def _is_taken(self, body: bytes) -> bool:
        answering = _Answering()

        def reply(status: int, headers: RawHeaders, body: bytes) -> None:
            answering.response_complete = True
            if answering.disconnected or self.transport.is_closing():
                return
            closes = not answering.keep_alive or _CLOSE in headers
            if closes and _CLOSE not in headers:
                headers = [*headers, _CLOSE]
            pairs = self.server_state.default_headers + headers
            lines = b"".join([b"%b: %b\r\n" % pair for pair in pairs])
            self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], lines, body))
            if closes:
                self.transport.close()
            self.on_response_complete()

        before, scope, cycle = self.cycle, cast("Scope", self.scope), cast("Any", answering)
        self.cycle = cycle
        if self._hot is not None and self._hot.take(scope, body, reply):
            return True
        self.cycle = before
        return False

    def _go_the_long_way(self) -> None:
        body, self._held = self._held, None
        self.begin()
        if body:
            super().on_body(bytes(body))
