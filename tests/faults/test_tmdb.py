"""Faults 10 and 11 at the TMDB crawler, against a real server on loopback."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from movie_mlops.cli.tmdb_server import LOCAL_KEY, PAGE_SIZE, TMDBServer
from movie_mlops.data.crawlers import TMDBAccess, TMDBCrawler, open_crawler
from movie_mlops.data.crawlers import tmdb as module
from movie_mlops.data.lake import Lake
from movie_mlops.data.processors.sample_films import invent_films
from movie_mlops.data.tables import MOVIES
from movie_mlops.domain.errors import (
    ConfigurationError,
    CrawlError,
    RateLimitedError,
    SourceAuthError,
    SourceFormatError,
)
from movie_mlops.settings import Settings

FILMS = invent_films(65, seed=1)


@contextmanager
def serving(*faults: str, films: list = FILMS) -> Iterator[TMDBServer]:
    with TMDBServer(films, faults=faults) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def crawler(server: TMDBServer, interval: float = 0.0, pages: int = 50) -> TMDBCrawler:
    access = TMDBAccess(LOCAL_KEY, server.url, pages)
    return TMDBCrawler(request_interval_seconds=interval, access=access)


def movies(raw: Path) -> list:
    return json.loads((raw / "popular.json").read_text())["movies"]


def nothing(what: str, done: int, total: int | None) -> None:
    pass


def test_a_whole_crawl_fills_the_movies_table_each_film_once(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    with serving() as server:
        crawler(server).fetch(lake.raw("tmdb"), nothing)
        pages = len(server.requests)
    assert pages == -(-len(FILMS) // PAGE_SIZE)
    with lake.connect() as connection:
        crawler(server).stage(lake.raw("tmdb"), connection)
        report = lake.replace(MOVIES, connection)
    assert (report.rows_out, report.quarantined) == (len(FILMS), {})
    assert set(lake.read("movies")["title"]) == {film["title"] for film in FILMS}


def test_requests_keep_their_distance(tmp_path: Path) -> None:
    with serving() as server:
        crawler(server, interval=0.1).fetch(tmp_path, nothing)
        times = [at for at, _ in server.requests]
    assert min(b - a for a, b in pairwise(times)) >= 0.095
    assert TMDBCrawler.__init__.__defaults__ == ("KR", "ko-KR", "ko", 0.4)


@pytest.mark.parametrize("fault", ["429", "429-retry", "500", "html", "half-json"])
def test_fault_10_a_passing_fault_is_waited_out(fault: str, tmp_path: Path) -> None:
    with serving("ok", fault) as server:
        started = time.monotonic()
        crawler(server).fetch(tmp_path, nothing)
        waited = time.monotonic() - started
        assert len(server.requests) == 5
    assert len(movies(tmp_path)) == len(FILMS)
    assert waited >= (1.0 if fault == "429-retry" else 0.5)


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (["401"], SourceAuthError),
        (["404"], CrawlError),
        (["429"] * 9, RateLimitedError),
        (["500"] * 9, CrawlError),
        (["html"] * 9, SourceFormatError),
        (["half-json"] * 9, SourceFormatError),
    ],
)
def test_fault_10_a_lasting_fault_ends_clearly_and_the_last_good_file_stays(
    faults: list[str], error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT_SECONDS", 0.01)
    with serving() as server:
        crawler(server).fetch(tmp_path, nothing)
        before = (tmp_path / "popular.json").read_bytes()
        server.faults.extend(["ok", *faults])
        with pytest.raises(error) as caught:
            crawler(server).fetch(tmp_path, nothing)
    assert LOCAL_KEY not in str(caught.value)
    assert (tmp_path / "popular.json").read_bytes() == before


def test_fault_10_an_answer_that_drips_for_ever_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(module, "LONGEST_WAIT_SECONDS", 0.01)
    with serving("slow") as server:
        crawler(server).fetch(tmp_path, nothing)
        assert len(server.requests) == 5
    assert len(movies(tmp_path)) == len(FILMS)


def test_a_stopped_crawl_goes_on_where_it_was_and_unchanged_pages_are_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT_SECONDS", 0.01)
    with serving("ok", "ok", *["500"] * 5) as server:
        with pytest.raises(CrawlError):
            crawler(server).fetch(tmp_path, nothing)
        assert not (tmp_path / "popular.json").exists()
        before = len(server.requests)
        crawler(server).fetch(tmp_path, nothing)
        assert [path for _, path in server.requests[before:]] == [
            path for _, path in server.requests[before:] if "page=3" in path or "page=4" in path
        ]
        stamps = [path.stat().st_mtime_ns for path in sorted((tmp_path / "pages").iterdir())]
        crawler(server).fetch(tmp_path, nothing)
        after = [path.stat().st_mtime_ns for path in sorted((tmp_path / "pages").iterdir())]
    assert after == stamps
    assert len(movies(tmp_path)) == len(FILMS)


def test_fault_10_removed_renumbered_and_adult_films_leave_the_catalogue(tmp_path: Path) -> None:
    with serving() as server:
        crawler(server).fetch(tmp_path, nothing)
        changed = [dict(film) for film in FILMS[1:]]
        changed[0] = {**changed[0], "id": 9_000}
        changed[1] = {**changed[1], "adult": True}
        server.films = changed
        crawler(server).fetch(tmp_path, nothing)
    ids = {film["id"] for film in movies(tmp_path)}
    gone = {FILMS[0]["id"], FILMS[1]["id"], FILMS[2]["id"]}
    assert ids == {film["id"] for film in FILMS} - gone | {9_000}


def test_the_guides_methods(tmp_path: Path) -> None:
    with serving() as server:
        found = crawler(server).get_bulk_popular_movies(1, 3)
        assert found[:PAGE_SIZE] == crawler(server).get_popular_movies(1)
    assert len({film["id"] for film in found}) == 3 * PAGE_SIZE
    path = TMDBCrawler.save_movies_to_json_file(found, str(tmp_path / "result"), "some")
    assert json.loads(path.read_text()) == {"movies": found}


def test_without_a_key_the_setting_and_the_local_server_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"TMDB_API_KEY.*tmdb-server"):
        open_crawler(Settings(source_url="tmdb:"))


def test_real_pages_go_through_the_same_code(shared_data: Path, tmp_path: Path) -> None:
    page = json.loads((shared_data / "tmdb" / "popular_page1_en_2023-03.json").read_text())
    records = page["results"]
    with serving(films=records) as server:
        crawler(server).fetch(tmp_path, nothing)
    lake = Lake(tmp_path / "data")
    with lake.connect() as connection:
        crawler(server).stage(tmp_path, connection)
        report = lake.replace(MOVIES, connection)
    assert report.rows_out == len(records) == 20
    assert set(lake.read("movies")["movie_id"]) == {record["id"] for record in records}
