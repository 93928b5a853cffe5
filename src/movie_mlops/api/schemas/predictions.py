"""Bodies of rating prediction."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from movie_mlops.models.serving.predictor import MovieFacts

_YEARS, _LONGEST_FILM, _MOST_VOTES = (1870, 2100), 10_000, 10**9
_TITLE, _GENRE, _GENRES = 500, 50, 20  # characters, characters, number
_Title = Annotated[str, Field(max_length=_TITLE)]
_Genre = Annotated[str, Field(max_length=_GENRE)]


class MovieIn(BaseModel):
    """A film in IMDb's words; null where something is not known."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    title: _Title | None = None
    original_title: _Title | None = Field(None, alias="originalTitle")
    start_year: int | None = Field(alias="startYear", ge=_YEARS[0], le=_YEARS[1])
    runtime_minutes: float | None = Field(
        alias="runtimeMinutes", gt=0, le=_LONGEST_FILM, allow_inf_nan=False
    )
    num_votes: int | None = Field(alias="numVotes", ge=0, le=_MOST_VOTES)
    genres: list[_Genre] = Field(default_factory=list, max_length=_GENRES)
    is_adult: bool = Field(False, validation_alias=AliasChoices("isAdult", "is_adult"))

    def to_facts(self) -> MovieFacts:
        """The film in the words of serving."""
        return _facts(self)


class _PlainMovie(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """What most callers send: `MovieIn` in its own names, and every value of its own type."""

    start_year: Annotated[int, Meta(ge=_YEARS[0], le=_YEARS[1])] | None
    runtime_minutes: Annotated[float, Meta(gt=0, le=_LONGEST_FILM)] | None
    num_votes: Annotated[int, Meta(ge=0, le=_MOST_VOTES)] | None
    title: Annotated[str, Meta(max_length=_TITLE)] | None = None
    original_title: Annotated[str, Meta(max_length=_TITLE)] | None = None
    genres: Annotated[
        tuple[Annotated[str, Meta(max_length=_GENRE)], ...], Meta(max_length=_GENRES)
    ] = ()
    is_adult: bool = False


_decode = msgspec.json.Decoder(_PlainMovie).decode


def plain_facts(body: bytes) -> MovieFacts | None:
    """What `MovieIn` says of this body, faster; None: ask `MovieIn` itself."""
    try:
        return _facts(_decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _facts(film: MovieIn | _PlainMovie) -> MovieFacts:
    title = film.title or ""
    return MovieFacts(
        title=title,
        original_title=film.original_title or title,
        start_year=film.start_year,
        runtime_minutes=film.runtime_minutes,
        num_votes=film.num_votes,
        genres=tuple(film.genres),
        is_adult=film.is_adult,
    )


class MoviesIn(BaseModel):
    """Up to 200 films."""

    movies: list[MovieIn] = Field(min_length=1, max_length=200)


class IntervalOut(BaseModel):
    """Bounds that hold the rating with probability `level`."""

    low: float
    high: float
    level: float


class RatingOut(BaseModel):
    """A rating 1–10; `in_range` is false where no film of the training was like this one."""

    rating: float
    interval: IntervalOut
    in_range: bool
    model_version: str


class PredictionOut(RatingOut):
    """The answer for one film."""

    request_id: str


class PredictionsOut(BaseModel):
    """One rating per film, in order."""

    predictions: list[RatingOut]
    request_id: str


class ModelInfo(BaseModel):
    """What is served for a task; `card` is the model's own description."""

    task: str
    model: str
    version: str
    algorithm: str
    snapshot: str
    challenger: str | None
    card: dict[str, Any]
