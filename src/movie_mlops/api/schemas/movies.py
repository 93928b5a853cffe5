"""Films and people as the API shows them."""

from datetime import date
from typing import Any, Literal, Self

from pydantic import BaseModel, Field

from movie_mlops.domain.movies import Movie
from movie_mlops.models.serving.posters import Language, Posters


class MovieOut(BaseModel):
    """A film; `title` is in the language that was asked for."""

    movie_id: int
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
    poster_url: str

    @classmethod
    def of(cls, movie: Movie, language: Language, posters: Posters) -> Self:
        """The film in this language."""
        return cls.model_construct(**movie_json(movie, language, posters))


class MoviePage(BaseModel):
    """Films in order of id; `next_cursor` is null on the last page."""

    items: list[MovieOut]
    next_cursor: str | None


class MovieList(BaseModel):
    """Films, the best match first."""

    items: list[MovieOut]


class SimilarMovie(BaseModel):
    """A film and how like the other one it is; figures compare within one answer only."""

    movie_id: int
    title: str
    similarity: float
    poster_url: str


class SimilarMovies(BaseModel):
    """The films most like `movie_id`.

    `by` says what that was measured by: the `model`, from who watched the films, or their
    `content`: genres, era, people, words.
    """

    movie_id: int
    by: Literal["model", "content"] = Field(examples=["model"])
    items: list[SimilarMovie]


class PopularMovie(MovieOut):
    """A film, and how many people watched or liked it in the window (once a day each)."""

    viewers: int = Field(examples=[12])


class PopularMovies(BaseModel):
    """The films that most people watched from `since` to `until`, both included.

    `until` is the last day with any viewer; both are null while nobody has watched anything.
    Films without viewers come last, as popular as the source says.
    """

    days: int = Field(examples=[7])
    genre: str | None = Field(examples=["Drama"])
    since: date | None = Field(examples=["2026-01-01"])
    until: date | None = Field(examples=["2026-01-07"])
    items: list[PopularMovie]


class GenreOut(BaseModel):
    """A genre, its name in Korean, and how many films have it."""

    name: str = Field(examples=["Drama"])
    name_ko: str = Field(examples=["드라마"])
    films: int = Field(examples=[312])


class Genres(BaseModel):
    """The genres that any film has."""

    items: list[GenreOut]


class PersonOut(BaseModel):
    """Somebody whom the page lets you be."""

    user_id: str
    name: str
    name_ko: str
    taste: str | None
    taste_ko: str | None


class PeopleOut(BaseModel):
    """`simulated` is false where they are anonymous viewers of a real data set."""

    simulated: bool
    items: list[PersonOut]


def title_in(movie: Movie, language: Language) -> str:
    """The title in this language, where there is one."""
    return (movie.title_ko if language == "ko" else movie.title_en) or movie.title


def movie_json(movie: Movie, language: Language, posters: Posters) -> dict[str, Any]:
    """A film as plain values."""
    return {
        "movie_id": movie.movie_id,
        "title": title_in(movie, language),
        "title_en": movie.title_en,
        "title_ko": movie.title_ko,
        "year": movie.year,
        "genres": movie.genres,
        "runtime": movie.runtime,
        "overview": movie.overview,
        "directors": movie.directors,
        "cast": movie.cast,
        "vote_average": movie.vote_average,
        "vote_count": movie.vote_count,
        "popularity": movie.popularity,
        "poster_url": posters.url(movie, language),
    }
