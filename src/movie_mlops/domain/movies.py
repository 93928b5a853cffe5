"""Films and their ids."""

import re
from dataclasses import dataclass
from typing import NewType

from movie_mlops.domain.errors import InvalidIdError

MovieId = NewType("MovieId", int)
"""The TMDB id; films without one get FOREIGN_ID_BASE + the id of their source."""

FOREIGN_ID_BASE = 1_000_000_000
MAX_MOVIE_ID = 2**53 - 1  # exact in JSON readers that only have doubles
_MOVIE_ID = re.compile(r"(?:movie_)?0*(\d{1,16})", re.ASCII)

GENRES = (
    "Action", "Adventure", "Animation", "Comedy", "Crime", "Documentary", "Drama", "Family",
    "Fantasy", "History", "Horror", "Music", "Mystery", "Romance", "Science Fiction", "TV Movie",
    "Thriller", "War", "Western",
)  # fmt: skip
"""TMDB's names; every source's genres are mapped to these."""

GENRES_KO = dict(zip(GENRES, (
    "액션", "모험", "애니메이션", "코미디", "범죄", "다큐멘터리", "드라마", "가족", "판타지",
    "역사", "공포", "음악", "미스터리", "로맨스", "SF", "TV 영화", "스릴러", "전쟁", "서부극",
), strict=True))  # fmt: skip
"""Their Korean names."""


@dataclass(frozen=True, slots=True)
class Movie:
    """What the API and the page show of a film."""

    movie_id: MovieId
    title: str
    title_en: str | None
    title_ko: str | None
    year: int | None
    genres: tuple[str, ...]
    runtime: int | None
    overview: str | None
    directors: tuple[str, ...]
    cast: tuple[str, ...]
    vote_average: float | None
    vote_count: int
    popularity: float
    poster_url: str | None


def parse_movie_id(value: int | str) -> MovieId:
    """Read `123`, `"123"` or `"movie_123"`.

    Raises:
        InvalidIdError: anything else, or an id outside 1 … 2^53 - 1.
    """
    match = _MOVIE_ID.fullmatch(str(value)) if not isinstance(value, bool) else None
    number = int(match.group(1)) if match else 0
    if not 1 <= number <= MAX_MOVIE_ID:
        shown = str(value)[:64]
        message = f"{shown!r} is no film id; write 123 or movie_123"
        raise InvalidIdError(message)
    return MovieId(number)
