"""Features of a film for rating prediction, the same in training and in serving."""

import re
from collections.abc import Sequence
from functools import lru_cache
from math import log1p, nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.movies import GENRES
from movie_mlops.models.algorithms.base import RatingRows

_SEQUEL = re.compile(r"\b(?:[2-9]|II|III|IV|V|VI|Part|Chapter|Returns?)\b", re.IGNORECASE)
_GENRE_PLACE = {name: place for place, name in enumerate(GENRES)}
_KEPT_SETS = 256  # of genres; they come again in other films

BASIC_COLUMNS = ("start_year", "runtime_minutes", "num_votes")
"""The guide's three."""

COLUMNS = (
    "start_year", "runtime_minutes", "log_votes", "votes_per_year", "age", "genre_count",
    "first_genre", "decade", "adult", "title_length", "title_words", "title_digits",
    "title_foreign", "title_colon", "title_sequel", "title_differs",
    *(f"genre_{name}" for name in GENRES),
)  # fmt: skip


def basic_features(rows: RatingRows) -> NDArray[np.float64]:
    """The guide's three columns, shape [rows, 3]."""
    return np.column_stack([rows.start_year, rows.runtime_minutes, rows.num_votes])


class Film(NamedTuple):
    """One row of `RatingRows`."""

    title: str
    original_title: str
    start_year: float
    runtime_minutes: float
    num_votes: float
    genres: Sequence[str]
    adult: bool
    directors: Sequence[str] = ()
    cast: Sequence[str] = ()

    @property
    def title_text(self) -> str:
        """The title, with the original one behind it where that differs: it tells the language."""
        if self.original_title and self.original_title != self.title:
            return f"{self.title} / {self.original_title}"
        return self.title

    @property
    def genre_mask(self) -> int:
        """The set of genres as one number."""
        return _of_genres(tuple(self.genres))[0]


def films_of(rows: RatingRows) -> list[Film]:
    """The rows one by one, with plain numbers: quicker than arrays when there is one row."""
    columns: list[Sequence[Any]] = [
        rows.title, rows.original_title, rows.start_year.tolist(), rows.runtime_minutes.tolist(),
        rows.num_votes.tolist(), rows.genres, rows.adult.tolist(),
    ]  # fmt: skip
    columns += [of if len(of) else [()] * len(rows) for of in (rows.directors, rows.cast)]
    return [Film(*row) for row in zip(*columns, strict=True)]


def film_row(film: Film, now: float) -> list[float]:
    """All columns of COLUMNS; `now` is the year that ages count from."""
    year, votes, title = film.start_year, film.num_votes, film.title
    age = max(now - year, 0.5) if year == year else year  # a missing year stays missing
    _, first_genre, genres = _of_genres(tuple(film.genres))
    return [
        year,
        film.runtime_minutes,
        log1p(votes),
        log1p(votes / age),
        age,
        sum(genres),
        first_genre,
        year // 10,
        film.adult,
        *_title_features(title),
        bool(film.original_title) and title != film.original_title,
        *genres,
    ]


def film_features(rows: RatingRows, now: float) -> NDArray[np.float64]:
    """`film_row` of every row, shape [rows, columns]."""
    found = [film_row(film, now) for film in films_of(rows)]
    return np.array(found, np.float64).reshape(len(rows), len(COLUMNS))


@lru_cache(_KEPT_SETS)
def _of_genres(names: tuple[str, ...]) -> tuple[int, float, list[float]]:
    """The set of these genres as one number, the first of them, and which of all they are."""
    known = [_GENRE_PLACE[name] for name in names if name in _GENRE_PLACE]
    flags = [float(place in known) for place in range(len(GENRES))]
    return sum({1 << place for place in known}), known[0] if known else nan, flags


def _title_features(title: str) -> tuple[float, ...]:
    return (
        len(title),
        len(title.split()),
        sum(map(str.isdigit, title)),
        0 if title.isascii() else len(title) - sum(map(str.isascii, title)),
        ":" in title,
        bool(_SEQUEL.search(title[1:])),
    )
