"""An answer's head and the first part of its body leave together."""

import asyncio
import socket

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from movie_mlops.api.server import OneWrite, config_of
from movie_mlops.settings import load_settings


class Sink(asyncio.Transport):
    """Remembers what was written, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: object) -> None:
        """Remember."""
        assert isinstance(data, bytes)
        self.written.append(data)

    def close(self) -> None:
        """Remember."""
        self.closed = True

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed


def test_the_head_waits_for_the_first_part_only() -> None:
    sink = Sink()
    answer = OneWrite(sink)
    answer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    assert sink.written == []
    answer.write(b"one")
    answer.write(b"two")
    assert sink.written == [b"HTTP/1.1 200 OK\r\n\r\none", b"two"]


def test_a_head_without_a_body_leaves_with_the_end_of_it() -> None:
    empty, cut = Sink(), Sink()
    answer = OneWrite(empty)
    answer.write(b"HTTP/1.1 304 Not Modified\r\n\r\n")
    answer.write(b"")
    assert empty.written == [b"HTTP/1.1 304 Not Modified\r\n\r\n"]
    broken = OneWrite(cut)
    broken.write(b"HTTP/1.1 200 OK\r\n\r\n")
    broken.close()
    assert cut.written == [b"HTTP/1.1 200 OK\r\n\r\n"]
    assert cut.closed
    assert broken.is_closing()


def test_an_invitation_to_continue_leaves_at_once() -> None:
    sink = Sink()
    answer = OneWrite(sink)
    answer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    answer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    answer.write(b"body")
    assert sink.written == [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nbody"]


async def _bodiless(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    status = int(scope["path"][1:])
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body"})


async def _first_line(request: str) -> bytes:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config = config_of(_bodiless, load_settings())
        config.lifespan = "off"
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(f"{request} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        line = await asyncio.wait_for(reader.readline(), 10)
        writer.close()
        server.should_exit = True
        await serving
    return line


@pytest.mark.parametrize(
    "request_line", ["HEAD /405", "HEAD /200", "GET /204", "GET /304", "GET /200"]
)
def test_an_answer_without_a_body_leaves_too(request_line: str) -> None:
    line = asyncio.run(_first_line(request_line))
    assert line.startswith(f"HTTP/1.1 {request_line[-3:]} ".encode())
