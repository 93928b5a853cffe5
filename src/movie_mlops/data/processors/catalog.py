"""TMDB's JSON, list records and full ones alike, to the columns of the movies table."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from movie_mlops.data.files import replacing
from movie_mlops.data.tables import MOVIES, TEXTS
from movie_mlops.domain.errors import SourceFormatError

if TYPE_CHECKING:
    import duckdb

Record = dict[str, Any]
"""One film as TMDB writes it."""

GENRE_IDS = {
    "Action": 28, "Adventure": 12, "Animation": 16, "Comedy": 35, "Crime": 80, "Documentary": 99,
    "Drama": 18, "Family": 10751, "Fantasy": 14, "History": 36, "Horror": 27, "Music": 10402,
    "Mystery": 9648, "Romance": 10749, "Science Fiction": 878, "TV Movie": 10770, "Thriller": 53,
    "War": 10752, "Western": 37,
}  # fmt: skip
"""Genre name (domain.movies.GENRES) to TMDB's id."""

_GENRE_NAMES = {number: name for name, number in GENRE_IDS.items()}
_POSTER = "https://image.tmdb.org/t/p/w342"
_HANGUL, _LATIN = re.compile(r"[가-힣]"), re.compile(r"[A-Za-z]")
_LEADING_ACTORS = 10
_LIST_KEYS = ("movies", "results")


def read_records(path: Path) -> list[Record]:
    """The film records of a JSON file: `{movies: [...]}`, a page's `{results: [...]}`, a list.

    Raises:
        SourceFormatError: the file is missing, no whole JSON, or holds no film record.
    """
    try:
        document = msgspec.json.decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except (OSError, msgspec.DecodeError) as error:
        message = f"{path.name} is no readable JSON: {error}"
        raise SourceFormatError(message) from error
    found = document
    if isinstance(document, dict):
        found = next((document[key] for key in _LIST_KEYS if key in document), [document])
    if not isinstance(found, list):
        message = f"{path.name} holds no list of films"
        raise SourceFormatError(message)
    records = [record for record in found if isinstance(record, dict) and "id" in record]
    if not records:
        message = f"{path.name} holds no film: none of its {len(found)} entries has an id"
        raise SourceFormatError(message)
    return records


def write_records(records: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write `{"movies": [...]}`, complete or not at all."""
    content = msgspec.json.format(msgspec.json.encode({"movies": list(records)}), indent=1)
    with replacing(path) as partial:
        partial.write_bytes(content)


def stage_tmdb_movies(path: Path, connection: "duckdb.DuckDBPyConnection") -> None:
    """Register the records of a TMDB JSON file as `raw_movies`; values stay as loose text.

    Raises:
        SourceFormatError: as `read_records`.
    """
    schema = {
        column.name: TEXTS if column.dtype == TEXTS else pl.String() for column in MOVIES.columns
    }
    rows = [_movie_row(record) for record in read_records(path)]
    connection.register("raw_movies", pl.DataFrame(rows, schema=schema, orient="row").to_arrow())


def table_records(movies: pl.DataFrame) -> list[Record]:
    """Rows of the movies table as TMDB list records, the most popular first."""
    ordered = movies.sort(["popularity", "movie_id"], descending=[True, False])
    return [
        {
            "id": row["movie_id"],
            "title": row["title"],
            "original_title": row["original_title"] or row["title"],
            "overview": row["overview"] or "",
            "genre_ids": [GENRE_IDS[name] for name in row["genres"] if name in GENRE_IDS],
            "release_date": f"{row['year']:04d}-01-01" if row["year"] else "",
            "vote_average": row["vote_average"] or 0.0,
            "vote_count": row["vote_count"],
            "popularity": row["popularity"],
            "adult": row["adult"],
            "poster_path": (row["poster_url"] or "").removeprefix(_POSTER) or None,
        }
        for row in ordered.iter_rows(named=True)
    ]


def _movie_row(record: Record) -> dict[str, str | list[str] | None]:
    korean, english = _translation(record, "ko"), _translation(record, "en")
    title, original = record.get("title"), record.get("original_title")
    language = record.get("original_language")
    title_ko = korean.get("title") or _in_script(_HANGUL, title)
    title_en = english.get("title") or (original if language == "en" else None)
    overview = record.get("overview") or korean.get("overview") or english.get("overview")
    directors, cast = _people(record.get("credits"))
    poster = record.get("poster_path")
    return {
        "movie_id": _text(record.get("id")),
        "title": _text(title or original),
        "title_en": _text(title_en or (None if title_ko == title else _in_script(_LATIN, title))),
        "title_ko": _text(title_ko or (original if language == "ko" else None)),
        "original_title": _text(original),
        "year": _text(record.get("release_date"), 4),
        "runtime": _text(record.get("runtime") or None),  # TMDB writes 0 for unknown
        "genres": _genres(record),
        "overview": _text(overview),
        "overview_en": _text(english.get("overview")),
        "directors": directors,
        "cast": cast,
        "vote_average": _text(record.get("vote_average")) if record.get("vote_count") else None,
        "vote_count": _text(record.get("vote_count", 0)),
        "popularity": _text(record.get("popularity", 0.0)),
        "adult": _text(record.get("adult", False)),
        "poster_url": f"{_POSTER}{poster}" if isinstance(poster, str) and poster else None,
        "imdb_id": _text(record.get("imdb_id")),
    }


def _text(value: object, length: int | None = None) -> str | None:
    return None if value is None or value == "" else str(value)[:length]


def _in_script(script: re.Pattern[str], title: object) -> str | None:
    return title if isinstance(title, str) and script.search(title) else None


def _translation(record: Record, language: str) -> Mapping[str, Any]:
    translations = record.get("translations")
    entries = translations.get("translations") if isinstance(translations, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("iso_639_1") == language:
            data = entry.get("data")
            return data if isinstance(data, dict) else {}
    return {}


def _genres(record: Record) -> list[str]:
    full = record.get("genres")
    if isinstance(full, list):
        numbers = [genre.get("id") for genre in full if isinstance(genre, dict)]
    else:
        listed = record.get("genre_ids")
        numbers = listed if isinstance(listed, list) else []
    # by id, for names come in the language that was asked for
    return [_GENRE_NAMES[number] for number in numbers if number in _GENRE_NAMES]


def _people(credits_: object) -> tuple[list[str], list[str]]:
    if not isinstance(credits_, dict):
        return [], []
    crew = [person for person in credits_.get("crew") or () if isinstance(person, dict)]
    cast = [person for person in credits_.get("cast") or () if isinstance(person, dict)]
    cast.sort(key=lambda person: person.get("order", _LEADING_ACTORS))
    directors = [str(p["name"]) for p in crew if p.get("job") == "Director" and p.get("name")]
    return directors, [str(p["name"]) for p in cast if p.get("name")][:_LEADING_ACTORS]
