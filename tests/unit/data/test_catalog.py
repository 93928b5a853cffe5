"""TMDB's JSON, real pages and the oddities it is known for."""

import json
from pathlib import Path

import polars as pl
import pytest

from movie_mlops.data.lake import Lake
from movie_mlops.data.processors.catalog import (
    GENRE_IDS,
    read_records,
    stage_tmdb_movies,
    table_records,
    write_records,
)
from movie_mlops.data.tables import MOVIES
from movie_mlops.domain.errors import SourceFormatError
from movie_mlops.domain.movies import GENRES

FULL = {
    "id": 7, "title": "부산행", "original_title": "부산행", "original_language": "ko",
    "overview": "", "genres": [{"id": 878, "name": "SF"}, {"id": 99999, "name": "?"}],
    "release_date": "2016-07-20", "runtime": 0, "vote_average": 0.0, "vote_count": 0,
    "popularity": 61.2, "adult": False, "poster_path": "/x.jpg", "imdb_id": "tt5700672",
    "credits": {
        "cast": [{"name": "B", "order": 1}, {"name": "A", "order": 0}],
        "crew": [{"name": "D", "job": "Director"}, {"name": "W", "job": "Writer"}],
    },
    "translations": {"translations": [
        {"iso_639_1": "en", "data": {"title": "Train to Busan", "overview": "A train."}},
    ]},
}  # fmt: skip


def staged(path: Path, document: object) -> pl.DataFrame:
    file = path / "films.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    lake = Lake(path / "data")
    with lake.connect() as connection:
        stage_tmdb_movies(file, connection)
        lake.replace(MOVIES, connection)
    return lake.read("movies")


def test_a_full_record_fills_every_column(tmp_path: Path) -> None:
    row = staged(tmp_path, [FULL]).row(0, named=True)
    assert row == {
        "movie_id": 7, "title": "부산행", "title_en": "Train to Busan", "title_ko": "부산행",
        "original_title": "부산행", "year": 2016, "runtime": None, "genres": ["Science Fiction"],
        "overview": "A train.", "overview_en": "A train.", "directors": ["D"],
        "cast": ["A", "B"], "vote_average": None, "vote_count": 0, "popularity": 61.2,
        "adult": False, "poster_url": "https://image.tmdb.org/t/p/w342/x.jpg",
        "imdb_id": "tt5700672",
    }  # fmt: skip


def test_one_bad_record_does_not_spoil_the_page(tmp_path: Path) -> None:
    good = [{**FULL, "id": number} for number in range(10, 20)]
    odd = {**FULL, "id": 30, "genres": "Drama", "genre_ids": None, "credits": [], "popularity": "x"}
    table = staged(tmp_path, {"movies": [*good, odd]})
    assert table["movie_id"].to_list() == list(range(10, 20))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"<html></html>", b"[]", b'{"movies": []}', b"[1, 2]", b'{"a": 1}']
)
def test_no_film_is_a_source_format_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "page.json"
    file.write_bytes(content)
    with pytest.raises(SourceFormatError, match=r"page\.json"):
        read_records(file)


def test_genre_ids_cover_the_domains_genres() -> None:
    assert set(GENRE_IDS) == set(GENRES)


def test_records_survive_table_and_file(tmp_path: Path) -> None:
    table = staged(tmp_path, [FULL, {**FULL, "id": 8, "popularity": 99.0}])
    write_records(table_records(table), tmp_path / "raw" / "popular.json")
    again = read_records(tmp_path / "raw" / "popular.json")
    assert [record["id"] for record in again] == [8, 7]
    assert again[0]["genre_ids"] == [878]
    assert json.loads((tmp_path / "raw" / "popular.json").read_text())["movies"][0]["title"]


@pytest.mark.parametrize(
    ("name", "rows"), [("tmdb_list_ko-KR_2025-06-05", 165), ("popular_page1_en_2023-03", 20)]
)
def test_real_pages_pass_whole(tmp_path: Path, shared_data: Path, name: str, rows: int) -> None:
    lake = Lake(tmp_path)
    with lake.connect() as connection:
        stage_tmdb_movies(shared_data / "tmdb" / f"{name}.json", connection)
        report = lake.replace(MOVIES, connection)
    assert (report.rows_out, report.quarantined) == (rows, {})
    table = lake.read("movies")
    assert table["genres"].list.len().mean() > 1
    assert table["poster_url"].drop_nulls().str.starts_with("https://image.tmdb.org/").all()
    named = table["title_en"].is_not_null() | table["title_ko"].is_not_null()
    assert named.mean() > 0.9, "only titles in other scripts have neither"
