"""Bodies of rating prediction."""

from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from movie_mlops.models.serving.predictor import MovieFacts

_Title = Annotated[str, Field(max_length=500)]
_Genre = Annotated[str, Field(max_length=50)]


class MovieIn(BaseModel):
    """A film in IMDb's words; null where something is not known."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    title: _Title | None = None
    original_title: _Title | None = Field(None, alias="originalTitle")
    start_year: int | None = Field(alias="startYear", ge=1870, le=2100)
    runtime_minutes: float | None = Field(
        alias="runtimeMinutes", gt=0, le=10_000, allow_inf_nan=False
    )
    num_votes: int | None = Field(alias="numVotes", ge=0, le=10**9)
    genres: list[_Genre] = Field(default_factory=list, max_length=20)
    is_adult: bool = Field(False, validation_alias=AliasChoices("isAdult", "is_adult"))

    def to_facts(self) -> MovieFacts:
        """The film in the words of serving."""
        title = self.title or ""
        return MovieFacts(
            title=title,
            original_title=self.original_title or title,
            start_year=self.start_year,
            runtime_minutes=self.runtime_minutes,
            num_votes=self.num_votes,
            genres=tuple(self.genres),
            is_adult=self.is_adult,
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
