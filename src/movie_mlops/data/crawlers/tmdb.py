"""TMDB's pages of popular films, fetched politely and resumed after a stop."""

import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tenacity

from movie_mlops.data.crawlers.base import Progress, no_progress
from movie_mlops.data.processors.catalog import stage_tmdb_movies
from movie_mlops.domain.errors import (
    CrawlError,
    EngineUnavailableError,
    RateLimitedError,
    SourceAuthError,
    SourceFormatError,
)

if TYPE_CHECKING:
    import duckdb
    import httpx

logger = logging.getLogger(__name__)

ATTEMPTS = 5
LONGEST_WAIT_SECONDS = 120.0
LONGEST_ANSWER_SECONDS = 30.0
LARGEST_ANSWER_BYTES = 10_000_000
MAX_PAGE = 500  # TMDB serves no page beyond it

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TMDBAccess:
    """Where TMDB is and the key to it: a v3 key, or a v4 token, which has dots."""

    api_key: str
    base_url: str = "https://api.themoviedb.org/3"
    pages: int = 50


class _BusyError(EngineUnavailableError):
    """An answer that another attempt may mend."""

    def __init__(self, message: str, wait_seconds: float | None, final: type[CrawlError]) -> None:
        super().__init__(message, wait_seconds or 0.0)
        self.wait_seconds = wait_seconds
        self.final = final


class TMDBCrawler:
    """Popular films of one region and language; at least the interval between two requests."""

    source = "tmdb"

    def __init__(
        self,
        region: str = "KR",
        language: str = "ko-KR",
        image_language: str = "ko",
        request_interval_seconds: float = 0.4,
        *,
        access: TMDBAccess,
    ) -> None:
        self.region = region
        self.language = language
        self.image_language = image_language
        self.request_interval_seconds = request_interval_seconds
        self._access = access
        bearer = "." in access.api_key
        self._key = {} if bearer else {"api_key": access.api_key}
        self._headers = {"Authorization": f"Bearer {access.api_key}"} if bearer else {}
        self._next_request = 0.0

    def get_popular_movies(self, page: int) -> list[Record]:
        """The films of one page of /movie/popular.

        Raises:
            CrawlError: SourceAuthError (401), RateLimitedError (429 to the end),
                SourceFormatError (no such JSON), else the answer's status.
        """
        body, _ = self._page(page, etag=None)
        return _results(body or {})

    def get_bulk_popular_movies(self, start_page: int, end_page: int) -> list[Record]:
        """The films of several pages, ends included, each film once."""
        pages = (self.get_popular_movies(page) for page in range(start_page, end_page + 1))
        return _distinct(movie for movies in pages for movie in movies)

    @staticmethod
    def save_movies_to_json_file(
        movies: list[Record], dst: str = "./result", filename: str = "popular"
    ) -> Path:
        """Write `{"movies": [...]}` to `dst/filename.json`, whole or not at all."""
        path = Path(dst) / f"{filename}.json"
        _write(path, {"movies": movies})
        return path

    def fetch(self, raw: Path, progress: Progress = no_progress) -> None:
        """Fetch all pages into `raw/pages`, then write `raw/popular.json` from them.

        A crawl that was stopped goes on where it was; a page whose ETag TMDB confirms (304)
        stays as it is. Films that TMDB no longer lists, or flags as adult, are left out. See the
        port for errors.
        """
        crawl = raw / "crawl.json"
        done = set(_read(crawl).get("done", []))
        page, last = 1, self._access.pages
        while page <= last:
            progress("TMDB pages", page - 1, last)
            if page not in done:
                last = min(last, self._keep_page(raw, page))
                done.add(page)
                _write(crawl, {"done": sorted(done)})
            page += 1
        progress("TMDB pages", last, last)
        bodies = (_read(_page_path(raw, number)) for number in range(1, last + 1))
        found = _distinct(movie for body in bodies for movie in _results(body))
        movies = [movie for movie in found if not movie.get("adult")]
        if not movies:
            message = "TMDB sent no film at all; the last good file stays"
            raise SourceFormatError(message)
        self.save_movies_to_json_file(movies, str(raw))
        crawl.unlink()

    def stage(self, raw: Path, connection: "duckdb.DuckDBPyConnection") -> tuple[str, ...]:
        """Stage `popular.json` as the movies table."""
        stage_tmdb_movies(raw / "popular.json", connection)
        return ("movies",)

    def _keep_page(self, raw: Path, page: int) -> int:
        """Fetch one page into its file unless it has not changed; return TMDB's last page."""
        path = _page_path(raw, page)
        before = _read(path)
        body, etag = self._page(page, etag=before.get("etag"))
        if body is None:
            logger.info("TMDB page %d has not changed", page)
            body = before
        else:
            _results(body)
            _write(path, {**body, "etag": etag})
        return max(1, min(int(body.get("total_pages") or page), MAX_PAGE))

    def _page(self, page: int, etag: str | None) -> tuple[Record | None, str | None]:
        """Body and ETag of one page; the body is None when the ETag still holds."""
        parameters = {"page": page, "region": self.region, "language": self.language}
        parameters["include_image_language"] = f"{self.image_language},null"
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_BusyError),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=_wait_as_told,
            before_sleep=tenacity.before_sleep_log(logger, logging.WARNING),
            reraise=True,
        )
        try:
            return retrying(self._request, "/movie/popular", parameters, etag)
        except _BusyError as error:
            message = f"{error} (gave up after {ATTEMPTS} attempts)"
            raise error.final(message) from error

    def _request(
        self, path: str, parameters: Mapping[str, Any], etag: str | None
    ) -> tuple[Record | None, str | None]:
        import httpx  # noqa: PLC0415 (it loads a command line of its own)

        pause = self._next_request - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        deadline = time.monotonic() + LONGEST_ANSWER_SECONDS
        headers = self._headers | ({"If-None-Match": etag} if etag else {})
        url = self._access.base_url.rstrip("/") + path
        try:
            with httpx.stream(
                "GET",
                url,
                params={**parameters, **self._key},
                headers=headers,
                timeout=LONGEST_ANSWER_SECONDS,
            ) as answer:
                content = _bounded(answer, deadline)
        except httpx.HTTPError as error:
            message = f"TMDB does not answer: {type(error).__name__}"
            raise _BusyError(message, None, CrawlError) from error
        finally:
            self._next_request = time.monotonic() + self.request_interval_seconds
        if answer.status_code == httpx.codes.NOT_MODIFIED:
            return None, etag
        _check_status(answer, path)
        try:
            body = json.loads(content)
        except ValueError as error:
            message = f"TMDB sent no JSON for {path}"
            raise _BusyError(message, None, SourceFormatError) from error
        if not isinstance(body, dict):
            message = f"TMDB sent no object for {path}"
            raise SourceFormatError(message)
        return body, answer.headers.get("etag")


def _bounded(answer: "httpx.Response", deadline: float) -> bytes:
    """The body, given up when it drips past the deadline or grows past all reason."""
    content = bytearray()
    for chunk in answer.iter_bytes():
        content += chunk
        if len(content) > LARGEST_ANSWER_BYTES:
            message = f"TMDB's answer is larger than {LARGEST_ANSWER_BYTES} bytes"
            raise SourceFormatError(message)
        if time.monotonic() > deadline:
            message = f"TMDB's answer took longer than {LONGEST_ANSWER_SECONDS:.0f} s"
            raise _BusyError(message, None, CrawlError)
    return bytes(content)


def _check_status(answer: "httpx.Response", path: str) -> None:
    import httpx  # noqa: PLC0415 (it loads a command line of its own)

    status = answer.status_code
    if status == httpx.codes.OK:
        return
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        message = "TMDB refuses the key: check TMDB_API_KEY"
        raise SourceAuthError(message)
    if status == httpx.codes.TOO_MANY_REQUESTS:
        wait = _seconds(answer.headers.get("retry-after"))
        message = f"TMDB answers 429 for {path}"
        raise _BusyError(message, wait, RateLimitedError)
    message = f"TMDB answers {status} for {path}"
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise _BusyError(message, _seconds(answer.headers.get("retry-after")), CrawlError)
    raise CrawlError(message)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds: a number or an HTTP date (RFC 9110 10.2.3); None if neither."""
    if retry_after is None:
        return None
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _wait_as_told(state: tenacity.RetryCallState) -> float:
    """As long as Retry-After says, else 0.5 s doubling; never longer than two minutes."""
    error = state.outcome.exception() if state.outcome else None
    told = error.wait_seconds if isinstance(error, _BusyError) else None
    wait = 0.5 * 2 ** (state.attempt_number - 1) if told is None else told
    return min(wait, LONGEST_WAIT_SECONDS)


def _results(body: Mapping[str, Any]) -> list[Record]:
    movies = body.get("results")
    if not isinstance(movies, list) or not all(isinstance(movie, dict) for movie in movies):
        message = "TMDB's page has no list of results"
        raise SourceFormatError(message)
    return movies


def _distinct(movies: Iterable[Record]) -> list[Record]:
    """Each id once, first place kept; pages shift while one reads them."""
    return list({movie.get("id"): movie for movie in reversed(list(movies))}.values())[::-1]


def _page_path(raw: Path, page: int) -> Path:
    return raw / "pages" / f"{page:04d}.json"


def _read(path: Path) -> Record:
    """A JSON object of ours, empty when there is none or it is half a file."""
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def _write(path: Path, body: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(body, ensure_ascii=False))
    beside.replace(path)
