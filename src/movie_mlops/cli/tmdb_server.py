"""`tmdb-server`: a local server with TMDB's wire format over the invented films, and its faults."""

import hashlib
import json
import time
from collections import deque
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import click

PAGE_SIZE = 20
LOCAL_KEY = "local-sample-key"
FAULTS = ("401", "404", "429", "429-retry", "500", "html", "half-json", "slow", "ok")
_LIST_FIELDS = (
    "adult", "backdrop_path", "genre_ids", "id", "original_language", "original_title",
    "overview", "popularity", "poster_path", "release_date", "title", "video", "vote_average",
    "vote_count",
)  # fmt: skip
_SECRET_ERROR = {
    "status_code": 7,
    "status_message": "Invalid API key: You must be granted a valid key.",
    "success": False,
}
_NOT_FOUND = {
    "status_code": 34,
    "status_message": "The resource you requested could not be found.",
    "success": False,
}


class TMDBServer(ThreadingHTTPServer):
    """Serves films on loopback; each of `faults` is what one request meets, in order.

    `requests` holds time and path of every request, so that a crawler's manners can be seen.
    """

    daemon_threads = True

    def __init__(
        self,
        films: list[dict[str, Any]],
        port: int = 0,
        faults: Iterable[str] = (),
        slow_seconds: float = 0.05,
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.films = sorted(films, key=lambda film: -film["popularity"])
        self.faults = deque(faults)
        self.slow_seconds = slow_seconds
        self.requests: list[tuple[float, str]] = []

    @property
    def url(self) -> str:
        """What goes into TMDB_BASE_URL."""
        return f"http://127.0.0.1:{self.server_address[1]}/3"


class _Handler(BaseHTTPRequestHandler):
    server: TMDBServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer one request, with the next fault when there is one."""
        self.server.requests.append((time.monotonic(), self.path))
        fault = self.server.faults.popleft() if self.server.faults else "ok"
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if fault == "401" or not self._has_key(query):
            self._send(401, _SECRET_ERROR)
        elif fault == "404":
            self._send(404, _NOT_FOUND)
        elif fault.startswith("429"):
            wait = {"Retry-After": "1"} if fault == "429-retry" else {}
            self._send(429, {"status_code": 25, "success": False}, wait)
        elif fault == "500":
            self._send(500, {"status_code": 11, "success": False})
        elif fault == "html":
            self._send_bytes(200, b"<html><body>Bad gateway</body></html>", "text/html")
        else:
            self._answer(url.path, query, fault)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Say nothing; `requests` tells."""

    def _has_key(self, query: dict[str, str]) -> bool:
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return LOCAL_KEY in (query.get("api_key"), bearer)

    def _answer(self, path: str, query: dict[str, str], fault: str) -> None:
        language = query.get("language", "en-US")[:2]
        if path.endswith("/movie/popular"):
            body = self._page(query, language)
        else:
            number = path.rpartition("/")[2]
            film = next((f for f in self.server.films if str(f["id"]) == number), None)
            body = _in_language(film, language) if film else None
        if body is None:
            self._send(404, _NOT_FOUND)
            return
        content = json.dumps(body, ensure_ascii=False).encode()
        etag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
        if fault == "half-json":
            self._send_bytes(200, content[: len(content) // 2])
        elif fault == "slow":
            self._drip(content)
        elif self.headers.get("If-None-Match") == etag:
            self._send_bytes(304, b"", headers={"ETag": etag})
        else:
            self._send_bytes(200, content, headers={"ETag": etag})

    def _page(self, query: dict[str, str], language: str) -> dict[str, Any] | None:
        films = self.server.films
        pages = -(-len(films) // PAGE_SIZE)
        page = query.get("page", "1")
        if not page.isdecimal() or not 1 <= int(page) <= max(pages, 1):
            return None
        start = (int(page) - 1) * PAGE_SIZE
        shown = [_in_language(film, language) for film in films[start : start + PAGE_SIZE]]
        results = [{field: film[field] for field in _LIST_FIELDS} for film in shown]
        totals = {"total_pages": pages, "total_results": len(films)}
        return {"page": int(page), "results": results, **totals}

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self._send_bytes(status, json.dumps(body).encode(), headers=headers)

    def _send_bytes(
        self,
        status: int,
        content: bytes,
        kind: str = "application/json;charset=utf-8",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _drip(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json;charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        try:
            for start in range(0, len(content), 64):
                self.wfile.write(content[start : start + 64])
                time.sleep(self.server.slow_seconds)
        except OSError:
            self.close_connection = True  # the client gave up, as it should


def _in_language(film: dict[str, Any], language: str) -> dict[str, Any]:
    """The film with title and overview in a language it has, else as it stands."""
    for translation in film.get("translations", {}).get("translations", []):
        if translation["iso_639_1"] == language:
            data = translation["data"]
            return {**film, "title": data["title"], "overview": data["overview"]}
    return film


@click.command("tmdb-server")
@click.option("--port", default=8090, show_default=True, help="Port on loopback.")
@click.option("--films", default=1_000, show_default=True, help="Invented films to serve.")
@click.option("--seed", default=42, show_default=True, help="Seed of the films.")
@click.option("--fault", "faults", multiple=True, type=click.Choice(FAULTS),
              help="What the next requests meet, in order; may be given often.")  # fmt: skip
def tmdb_server(port: int, films: int, seed: int, faults: tuple[str, ...]) -> None:
    r"""A local TMDB-compatible server, so that the TMDB crawler runs without a key or network.

    \b
    Then, in another shell:
      TMDB_API_KEY=local-sample-key TMDB_BASE_URL=http://127.0.0.1:8090/3 make up SOURCE=tmdb
    """
    from movie_mlops.data.processors.sample_films import invent_films

    with TMDBServer(invent_films(films, seed), port, faults) as server:
        click.echo(f"TMDB-compatible server of {films} invented films on {server.url}")
        click.echo(f"use it with TMDB_API_KEY={LOCAL_KEY} TMDB_BASE_URL={server.url}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("stopped")
