"""What is answered while it is read is what uvicorn's own way answers, byte for byte."""

import asyncio
import contextlib
import re
import socket
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import httptools
import pytest
import uvicorn
from tests.houses import api_services, furnish, serve_ratings

from movie_mlops.api.hot import EVENTS, LISTS, RATING, HotRoutes
from movie_mlops.api.main import App, create_app
from movie_mlops.api.quick import Heads
from movie_mlops.api.server import Protocol, config_of
from movie_mlops.settings import Settings

FILM = b'{"startYear": 1999, "runtimeMinutes": 100, "numVotes": 5000}'
LIKE = b'{"user_id": "3", "movie_id": 4, "interaction_type": "like"}'


def get(target: str, *lines: str, version: str = "1.1", method: str = "GET") -> bytes:
    head = [f"{method} {target} HTTP/{version}", "Host: localhost", *lines]
    return "\r\n".join([*head, "", ""]).encode()


def post(path: str, body: bytes, *lines: str, version: str = "1.1") -> bytes:
    more = ("Content-Type: application/json", f"Content-Length: {len(body)}", *lines)
    return get(path, *more, version=version, method="POST") + body


class Door:
    """One app behind two servers: ours, and uvicorn as it is."""

    def __init__(self, home: Path) -> None:
        settings = Settings(home=home, writes_burst=10**6, writes_per_minute=10**6)
        furnish(settings)
        serve_ratings(settings.path(settings.serving_url))
        self.app: App = create_app(settings, lambda: api_services(settings))
        self.runner = asyncio.Runner()
        self._context = self.app.router.lifespan_context(self.app)
        self.runner.run(self._context.__aenter__())
        ours, plain = config_of(self.app, settings), config_of(self.app, settings)
        plain.http = "httptools"
        self.servers = [self._start(config) for config in (ours, plain)]
        self.ask(*[post(EVENTS, LIKE)] * 10, LAST)  # from here on all positions are of one length

    def close(self) -> None:
        for server, _, serving in self.servers:
            server.should_exit = True
            self.runner.run(_end(serving))
        self.runner.run(self._context.__aexit__(None, None, None))
        self.runner.close()

    def ask(self, *parts: bytes) -> list[bytes]:
        """What each server answers to these bytes, and then closes."""
        return [self.runner.run(_talk(address, parts)) for _, address, _ in self.servers]

    def _start(self, config: uvicorn.Config) -> tuple[uvicorn.Server, Any, "asyncio.Task[None]"]:
        config.lifespan = "off"
        server, listener = uvicorn.Server(config), socket.create_server(("127.0.0.1", 0))

        async def begin() -> "asyncio.Task[None]":
            serving = asyncio.create_task(server.serve([listener]))
            while not server.started:  # noqa: ASYNC110 (uvicorn has no event)
                await asyncio.sleep(0.001)
            return serving

        return server, listener.getsockname(), self.runner.run(begin())


async def _end(serving: "asyncio.Task[None]") -> None:
    await serving


async def _talk(address: tuple[str, int], parts: tuple[bytes, ...]) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(0.02 if len(parts) > 1 else 0)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return re.sub(
        rb"(?m)^(?:date|x-position): .*\r\n|(?<=x-request-id: )[0-9a-f]{32}\r"
        rb'|(?<=_id":")[0-9a-f]{32}|user-events:\d:\d+',
        b"",
        answer,
    )


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    made = Door(tmp_path_factory.mktemp("home"))
    yield made
    made.close()


LAST = get(f"{LISTS}?user_id=5&k=2", "Connection: close")
LIST = get(f"{LISTS}?user_id=user_1&k=3")


@pytest.mark.parametrize(
    ("parts", "statuses"),
    [
        ([LIST + LAST], [200, 200]),
        ([LIST, post(RATING, FILM), post(EVENTS, LIKE), LAST], [200, 200, 202, 200]),
        ([LIST + post(RATING, FILM) + post(EVENTS, LIKE) + LIST + LAST], [200, 200, 202, 200, 200]),
        ([post(EVENTS, LIKE) + LIST, LIST + LAST], [202, 200, 200, 200]),
        ([post(RATING, FILM)[:-20], post(RATING, FILM)[-20:] + LAST], [200, 200]),
        ([post(RATING, FILM)[:30], post(RATING, FILM)[30:], LAST], [200, 200]),
        ([post(RATING, FILM, "X-Request-ID: mine"), LAST], [200, 200]),
        ([post(RATING, FILM, "Expect: 100-continue"), LAST], [100, 200, 200]),
        ([post(RATING, FILM, version="1.0")], [200]),
        ([post(EVENTS, LIKE, "Connection: close")], [202]),
        ([post(EVENTS, LIKE, "X-Forwarded-For: 9.9.9.9"), LAST], [202, 200]),
        ([post(RATING, b"{}"), post(RATING, b"x" * 70_000), LAST], [422, 413, 200]),
        ([post(RATING, b"{}") + LAST], [422, 200]),
        ([get(f"http://localhost{LISTS}?k=1"), LAST], [200, 200]),
        ([get(f"{LISTS}?k=1#part"), get(f"{LISTS}#part"), LAST], [200, 200, 200]),
        ([get(RATING), get(LISTS, method="HEAD"), LAST], [405, 200, 200]),
        ([get(RATING, method="HEAD"), get(f"{LISTS}?k=0", method="HEAD"), LAST], [405, 422, 200]),
        ([get(f"{LISTS}?k=1", "Connection: upgrade", "Upgrade: websocket"), LAST], [200, 200]),
    ],
)
def test_both_ways_answer_the_same(door: Door, parts: list[bytes], statuses: list[int]) -> None:
    ours, plain = door.ask(*parts)
    assert ours == plain
    assert [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+)", ours)] == statuses


def test_most_are_answered_while_they_are_read(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[bytes] = []
    begin = Protocol.begin

    def noted(protocol: Protocol) -> None:
        begun.append(protocol.url)
        begin(protocol)

    monkeypatch.setattr(Protocol, "begin", noted)
    parts = (LIST, post(RATING, FILM), post(EVENTS, LIKE), LAST)
    ours = door.runner.run(_talk(door.servers[0][1], parts))
    assert ours.count(b"HTTP/1.1 20") == 4
    assert begun == [f"{LISTS}?user_id=5&k=2".encode()]  # the last, which closes


def test_a_leaving_process_says_so_and_closes(door: Door) -> None:
    door.app.state.traffic.leaving = True
    try:
        ours, plain = door.ask(LIST)
        assert b"connection: close" in ours
        assert ours == plain
        ours, plain = door.ask(post(EVENTS, LIKE))
        assert b"connection: close" in ours
        assert ours == plain
    finally:
        door.app.state.traffic.leaving = False


@pytest.mark.parametrize("leaving", [False, True])
def test_a_server_that_ends_closes_after_the_answer_that_was_on_its_way(
    door: Door, monkeypatch: pytest.MonkeyPatch, *, leaving: bool
) -> None:
    take = HotRoutes.take

    def taken(hot: HotRoutes, *request: Any) -> bool:
        for each in door.servers[0][0].server_state.connections:
            each.shutdown()  # as uvicorn does with every connection when it ends
        return take(hot, *request)

    monkeypatch.setattr(HotRoutes, "take", taken)
    monkeypatch.setattr(door.app.state.traffic, "leaving", leaving)
    answer = door.runner.run(_talk(door.servers[0][1], (LIST,)))
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"connection: close\r\n") == 1


def test_whoever_leaves_before_the_answer_is_still_heard(door: Door) -> None:
    async def leave() -> None:
        before = len(door.app.state.services.histories.of("gone").hidden)
        _, writer = await asyncio.open_connection(*door.servers[0][1])
        writer.write(post(EVENTS, LIKE.replace(b'"3"', b'"gone"')))
        await writer.drain()
        writer.transport.abort()
        while len(door.app.state.services.histories.of("gone").hidden) == before:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    door.runner.run(asyncio.wait_for(leave(), 10))
    assert door.app.state.traffic.in_flight == 0
    assert door.ask(LAST)[0].startswith(b"HTTP/1.1 200")


def test_headers_that_came_before_are_not_parsed_again(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    begin = Protocol.on_message_begin

    def noted(protocol: Protocol) -> None:
        parsed.append(b"one")
        begin(protocol)

    parts = [get(f"{LISTS}?user_id={user}&k=3", "X-Program: mine") for user in "345"]
    parts += [post(RATING, FILM, "X-Program: mine"), post(RATING, FILM, "X-Program: mine"), LAST]
    monkeypatch.setattr(Protocol, "on_message_begin", noted)
    ours, plain = door.ask(*parts)
    assert ours == plain
    assert len(parsed) == 3  # the first list, the first rating, the last one, which closes


def test_a_connection_is_kept_while_it_is_used_and_closed_when_it_is_silent(door: Door) -> None:
    server, address, _ = door.servers[0]

    async def talk() -> tuple[int, float]:
        reader, writer = await asyncio.open_connection(*address)
        answered = 0
        for _ in range(6):
            writer.write(LIST)
            answered += (await asyncio.wait_for(reader.read(100_000), 5)).count(b"HTTP/1.1 200")
            await asyncio.sleep(0.1)
        begun = asyncio.get_running_loop().time()
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        return answered, asyncio.get_running_loop().time() - begun

    before, server.config.timeout_keep_alive = server.config.timeout_keep_alive, 0.3  # type: ignore[assignment]
    try:
        answered, silent = door.runner.run(talk())
    finally:
        server.config.timeout_keep_alive = before
    assert answered == 6  # longer than the time of silence that is allowed
    assert 0.1 < silent < 5


class Parsed:
    """What httptools reads from bytes."""

    def __init__(self, data: bytes) -> None:
        self.url, self.headers, self.body, self.ends = b"", {}, b"", 0  # type: ignore[var-annotated]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ends += 1


TARGETS = (RATING, LISTS, f"{LISTS}?user_id=7&k=3", f"{LISTS}?a=%20", f"{LISTS}#x", "/ HTTP/1.1")
BLOCKS = (
    b"\r\nContent-Length: 2\r\n\r\n",
    b"\r\nContent-Length: 0\r\n\r\n",
    b"\r\n\r\n",
    b"\r\nContent-Length: 2\r\nX: a\nContent-Length: 4\r\n\r\n",
    b"\r\nContent-Length: 2\n\nab\r\n\r\n",
    b"\nContent-Length: 2\r\n\r\n",
    b"\r\n folded\r\n\r\n",
    b"\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
)


BODIES = (b"", b"{}", b"{}{}", b"\r\n")
METHODS = ("POST", "GET", "HEAD", "get", "GET\t")
VERSIONS = ("1.1", "1.0", "1.1 ", "1.1\nX: HTTP/1.1")


@pytest.mark.parametrize("block", BLOCKS)
def test_what_is_known_means_what_the_parser_reads(block: bytes) -> None:
    known: list[str] = []
    for first, body, method, target, version in product(BODIES, BODIES, METHODS, TARGETS, VERSIONS):
        heads = Heads()
        before = f"POST {RATING} HTTP/1.1\r\nHost: localhost".encode() + block + first
        with contextlib.suppress(httptools.HttpParserError):
            parsed = Parsed(before)
            if parsed.ends == 1:
                heads.learn(before, parsed.headers, parsed.body)
        asked = f"{method} {target} HTTP/{version}\r\nHost: localhost".encode() + block + body
        read = heads.read(asked)
        if read is None:
            continue
        known.append(f"{method} {target}")
        parsed = Parsed(asked)
        path, _, query = parsed.url.partition(b"?")
        assert parsed.ends == 1
        assert read == (
            parsed.parser.get_method().decode(), path.decode(), query, parsed.headers, parsed.body
        )  # fmt: skip
    plain = [f"{method} {target}" for method in METHODS[:2] for target in TARGETS[:3]]
    assert set(known) == (set(plain) if block in BLOCKS[:3] else set())
