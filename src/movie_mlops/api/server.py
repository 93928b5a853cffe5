"""The HTTP server under the API: clear answers to what is no HTTP, and an end that loses nobody."""

import asyncio
import gc
import socket
import sys
import time
from contextlib import suppress
from math import ceil
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from threadpoolctl import threadpool_limits
from uvicorn._types import HTTPScope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from movie_mlops.api.errors import problem
from movie_mlops.api.gate import MAX_HEADER_BYTES, MAX_URL_BYTES
from movie_mlops.api.middleware import Traffic
from movie_mlops.api.quick import QuickProtocol
from movie_mlops.domain.requests import new_request_id
from movie_mlops.monitoring.metrics import API_READY
from movie_mlops.settings import Settings

_SWITCH_SECONDS = 0.001  # a commit's thread waits this long at most for its turn
_GC_THRESHOLDS = (20_000, 20, 50)  # a request makes some hundred objects and next to no cycles
_LEAVE_SECONDS = 0.5  # how long a leaving process still takes connections, and says so on each
_LAST_SECONDS = 0.2  # how long the last ones taken may wait with their request
_LONGEST_GOODBYE_SECONDS = 2.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class OneWrite:
    """What an answer is written to: its head waits for the first part of its body.

    Each write of uvloop is a system call, and two of them are a third of what a quick answer
    costs. ASGI lets a server wait so.
    """

    __slots__ = ("_head", "_transport", "_waits")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._head, self._waits = transport, b"", True

    def write(self, data: bytes) -> None:
        """Write, but keep the head of the answer."""
        if self._waits and data != _CONTINUE:
            self._waits, self._head = False, data
            return
        if self._head:
            data, self._head = self._head + data, b""
        self._transport.write(data)

    def close(self) -> None:
        """Close, after what is kept was written."""
        if self._head:
            self.write(b"")
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether the transport closes."""
        return self._transport.is_closing()


class Protocol(QuickProtocol):
    """HTTP/1.1 whose refusals are problem+json; endless and slow heads of requests are cut."""

    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new connection; one that stays silent is closed."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._head_is_whole()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        super().data_received(data)
        if self._head_is_open():
            self._wait_for_head(len(data))
        elif self._head_bytes:
            self._head_is_whole()

    def begin(self) -> None:
        """Let uvicorn begin with the request."""
        super().begin()
        cycle: Any = self.cycle  # None where another protocol takes over
        if cycle is None or cycle.scope["method"] == "HEAD":  # no body will come
            return
        if not isinstance(cycle.transport, OneWrite):
            cycle.transport = OneWrite(cycle.transport)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(400, f"{msg} Send HTTP/1.1 with one Host header.")

    def _head_is_open(self) -> bool:
        scope: HTTPScope | None = self.scope  # uvicorn says it is never None, and it is at first
        return scope is not None and "method" not in scope

    def _wait_for_head(self, count: int) -> None:
        self._head_bytes += count
        if self._head_timer is None:
            limit = float(self.timeout_keep_alive)
            self._head_timer = self.loop.call_later(limit, self._head_is_late)
        if self._head_bytes > MAX_HEADER_BYTES + MAX_URL_BYTES and not self.transport.is_closing():
            if len(self.url) > MAX_URL_BYTES:
                self._refuse(414, f"an address may have {MAX_URL_BYTES} bytes")
            else:
                self._refuse(431, f"all headers together may have {MAX_HEADER_BYTES} bytes")

    def _head_is_whole(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        if not self.transport.is_closing():
            self._refuse(408, "the request came too slowly; send it at once")

    def _refuse(self, status: int, detail: str) -> None:
        request_id = new_request_id()
        answer = problem(status, detail, "", request_id)
        head = [f"HTTP/1.1 {status} Refused".encode(), b"connection: close"]
        head += [name + b": " + value for name, value in answer.raw_headers]
        head.append(b"x-request-id: " + request_id.encode())
        self.transport.write(b"\r\n".join([*head, b"", bytes(answer.body)]))
        self.transport.close()

    def is_idle(self) -> bool:
        """Whether nothing is being answered and nothing has come that was not read yet."""
        cycle: RequestResponseCycle | None = self.cycle
        if self._head_is_open() or (cycle is not None and not cycle.response_complete):
            return False
        taken = self.transport.get_extra_info("socket")
        if taken is None or taken.fileno() < 0:
            return True
        copy = socket.socket(fileno=socket.dup(taken.fileno()))
        try:
            return not copy.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:  # nothing there, or the client has gone
            return True
        finally:
            copy.close()


def config_of(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """How this house runs uvicorn."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=ceil(settings.request_timeout_seconds),
    )


def run(app: ASGIApp, settings: Settings, traffic: Traffic, listener: socket.socket | None) -> None:
    """Serve until SIGTERM; requests that have begun are answered first."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    threadpool_limits(1)  # one list is too small for two cores, and idle BLAS threads spin
    Server(config_of(app, settings), traffic).run([listener] if listener is not None else None)


class Server(uvicorn.Server):
    """Leaves without refusing anybody: first it says so on every answer, then it closes."""

    def __init__(self, config: uvicorn.Config, traffic: Traffic) -> None:
        super().__init__(config)
        self._traffic = traffic

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then keep what is there out of the garbage collector's rounds."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        gc.enable()  # off since the process began
        API_READY.set(1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Go on answering for a moment, so that clients go elsewhere of themselves; then end."""
        self._traffic.leaving = True
        API_READY.set(0)
        if not self.force_exit:
            await asyncio.sleep(_LEAVE_SECONDS)
        await self._close_port(sockets or [])
        if not self.force_exit:
            await asyncio.sleep(_LAST_SECONDS)  # whoever came last has sent nothing yet
            await self._say_goodbye()
        await super().shutdown(sockets)

    async def _close_port(self, sockets: list[socket.socket]) -> None:
        """Stop listening, and take whoever the kernel has taken for us in the meantime."""
        loop = asyncio.get_running_loop()
        copies = [each.dup() for server in self.servers for each in server.sockets or ()]
        for server in self.servers:
            server.close()
        for each in sockets:
            each.close()
        taken: list[socket.socket] = []
        for copy in copies:
            copy.setblocking(False)
            with suppress(OSError):  # nobody is left
                while True:
                    taken.append(copy.accept()[0])
            copy.close()
        for each in taken:
            await loop.connect_accepted_socket(self._protocol, each)

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = Protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    async def _say_goodbye(self) -> None:
        """Close every connection at a moment when nothing is on its way in it."""
        end = time.monotonic() + _LONGEST_GOODBYE_SECONDS
        while self.server_state.connections and time.monotonic() < end:
            for each in list(self.server_state.connections):
                if isinstance(each, Protocol) and each.is_idle():
                    each.shutdown()
            await asyncio.sleep(0.02)
