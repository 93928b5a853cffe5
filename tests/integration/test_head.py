"""HEAD answers what GET does, without the body: on every route, with every server."""

import re
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from tests.houses import FILMS, answering, built_page, furnish, running

from movie_mlops.api.main import App, create_app
from movie_mlops.api.middleware import Journal, Observer, Traffic
from movie_mlops.api.server import Protocol
from movie_mlops.monitoring.metrics import RequestMeter
from movie_mlops.settings import Settings

LIST = "/api/v1/recommendations?user_id=1&k=3"
EVENTS = "/api/v1/events/user-interaction"
SAME = {"X-Request-ID": "the-same", "X-API-Key": "the-admin-key"}
UNLISTED = {
    "/docs/{name}": ["/docs/swagger-ui.css", "/docs/none"],
    "/": ["/", "/?k=3", "/?k=0"],
}
"""Addresses that the document of the API does not spell out."""
BESIDE = ["/openapi.json", "/favicon.svg", "/assets/app.js", "/assets/none.js", "/nowhere"]
"""What is answered beside the routes that the application describes."""


def described() -> App:
    return create_app(Settings(), lambda: pytest.fail("nothing is opened"))


def addresses() -> list[str]:
    """At least one address of every GET route, with the examples of the API's document."""
    app = described()
    paths = app.openapi()["paths"]
    found = list(BESIDE)
    for route in app.described:
        if "GET" in (route.methods or ()):
            found += UNLISTED.get(route.path) or [_filled(paths, route.path)]
    return found


def _filled(paths: dict[str, Any], path: str) -> str:
    query = []
    for parameter in paths.get(path, {}).get("get", {}).get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
        elif parameter["in"] == "query" and parameter.get("example") is not None:
            query.append(f"{parameter['name']}={parameter['example']}")
    return f"{path}?{'&'.join(query)}" if query else path


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = Settings(
        home=tmp_path_factory.mktemp("home"), admin_api_key=SecretStr(SAME["X-API-Key"])
    )
    furnish(settings)
    return settings


@pytest.fixture(scope="module")
def api(house: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    page = built_page(tmp_path_factory.mktemp("dist"))
    with running(house, page) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield client


def test_every_get_route_is_asked() -> None:
    assert len(addresses()) >= 40
    assert not [address for address in addresses() if "{" in address]


@pytest.mark.parametrize("address", addresses())
def test_head_is_get_without_its_body(api: httpx.Client, address: str) -> None:
    first, head, again = (
        api.request(method, address, headers=SAME) for method in ("GET", "HEAD", "GET")
    )
    assert head.status_code == first.status_code
    assert head.content == b""
    assert list(head.headers) == list(first.headers)
    moving = {"date"} | ({"content-length", "etag"} if first.content != again.content else set())
    for name in set(head.headers) - moving:
        if first.headers[name] == again.headers[name]:  # else it moves by itself
            assert head.headers[name] == first.headers[name], name


@pytest.mark.parametrize("accept", ["text/html", "application/json", "image/png"])
def test_the_front_door_and_what_it_takes(api: httpx.Client, accept: str) -> None:
    for address in ("/", "/health"):
        get = api.get(address, headers={**SAME, "Accept": accept})
        head = api.head(address, headers={**SAME, "Accept": accept})
        assert (head.status_code, head.headers["content-type"], head.content) == (
            get.status_code,
            get.headers["content-type"],
            b"",
        )


def test_a_known_version_is_not_modified(api: httpx.Client) -> None:
    tag = api.head("/api/v1/movies/1").headers["etag"]
    head = api.head("/api/v1/movies/1", headers={"If-None-Match": tag})
    assert (head.status_code, head.headers["etag"], head.content) == (304, tag, b"")


def test_refusals_say_that_head_is_taken(api: httpx.Client) -> None:
    assert api.put(LIST).headers["allow"] == "GET, HEAD"
    assert api.get(EVENTS).headers["allow"] == "POST"
    head = api.head(EVENTS)
    assert (head.status_code, head.headers["allow"], head.content) == (405, "POST", b"")
    assert api.head(LIST, headers={"Host": "evil.example"}).status_code == 421
    assert api.head(f"/api/v1/movies/{FILMS + 99}").status_code == 404


def test_it_is_counted_as_head_and_documented_once(api: httpx.Client) -> None:
    api.head("/api/v1/movies/2")
    text = api.get("/metrics").text
    series = 'http_requests_total{endpoint="/api/v1/movies/{movie_id}",method="HEAD",status="200"}'
    assert series in text
    document = api.get("/openapi.json").json()
    assert "HEAD" in document["info"]["description"]
    assert not [path for path, methods in document["paths"].items() if "head" in methods]


async def _forever(request: Request) -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        while not await request.is_disconnected():
            yield b"data: more\n\n"

    return StreamingResponse(parts(), media_type="text/event-stream")


@pytest.mark.parametrize("http", ["h11", "httptools", Protocol])
def test_no_byte_of_a_body_is_sent(house: Settings, http: Any) -> None:
    """On one connection, so that a stray byte would spoil the next answer; streams end at once."""
    app = Starlette(routes=[Route("/stream", _forever)])
    traffic = Traffic(8)
    app.add_middleware(Observer, settings=house, journal=Journal(RequestMeter()), traffic=traffic)
    with answering(app, http=http) as url:
        answers = _talk(url, "HEAD /stream", "HEAD /nowhere", "HEAD /stream", "GET /nowhere")
    assert re.findall(rb"HTTP/1\.1 (\d+)", answers) == [b"200", b"404", b"200", b"404"]
    assert answers.count(b"\r\n\r\nHTTP/1.1 ") == 3
    assert answers.endswith(b"\r\n\r\nNot Found")
    assert traffic.in_flight == 0


def _talk(url: str, *lines: str) -> bytes:
    address = urlsplit(url)
    answer = b""
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        for place, line in enumerate(lines):
            last = "Connection: close\r\n" if place == len(lines) - 1 else ""
            client.sendall(f"{line} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n".encode())
        while part := client.recv(65_536):
            answer += part
    return answer
