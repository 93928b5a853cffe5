"""Lists of recommended films."""

from typing import Literal

from pydantic import BaseModel, Field

from movie_mlops.api.schemas.ids import UserIdIn
from movie_mlops.api.schemas.movies import MovieOut


class Reason(BaseModel):
    """Why a film stands in the list; `because` are the viewer's films that gave most."""

    text: str
    because: list[int]


class RecommendedMovie(BaseModel):
    """One place of the list; `movie` only with `expand=movie`."""

    movie_id: int
    title: str
    score: float
    reason: Reason
    movie: MovieOut | None = None


class Recommendations(BaseModel):
    """A ranked list and what produced it."""

    user_id: str | None
    k: int
    path: Literal["personal", "newcomer", "popular", "batch", "static"]
    model_version: str
    snapshot: str
    request_id: str
    items: list[RecommendedMovie]
    without: list[int] | None = Field(
        None, description="Films that the history was taken to lack; only where it was asked for."
    )
    diversity: float | None = Field(None, description="The dial; only where it was turned up.")


class ContributionOut(BaseModel):
    """What one film of the history gave to a score; `age` 0 is the film watched last."""

    movie_id: int
    title: str
    contribution: float = Field(examples=[0.21])
    age: int = Field(examples=[0])


class ExplanationOut(BaseModel):
    """A score taken apart; where `exact`, `baseline` and contributions add up to `score`.

    Where it is not (networks), a contribution is what the score would lose without that film
    alone. `rank` is the place among all films that may be shown, null for a film that is hidden.
    """

    user_id: str
    movie_id: int
    score: float
    baseline: float = Field(examples=[0.08])
    exact: bool = Field(examples=[True])
    contributions: list[ContributionOut]
    rank: int | None = Field(examples=[1])
    model_version: str
    snapshot: str
    request_id: str


class HomeRow(BaseModel):
    """One row of the home page; `about` is the film or the genre it is about."""

    key: Literal["for_you", "because", "popular", "new", "genre"] = Field(examples=["because"])
    title: str = Field(examples=["Because you watched The Quiet Sea"])
    about: int | str | None = Field(examples=[7])
    items: list[MovieOut]


class HomeOut(BaseModel):
    """The rows of a home page; no film stands in two of them."""

    user_id: str | None
    k: int
    path: Literal["personal", "newcomer", "popular", "batch", "static"]
    model_version: str
    snapshot: str
    request_id: str
    rows: list[HomeRow]


class RecommendedIds(BaseModel):
    """Film ids, the best first."""

    recommended_content_id: list[int]


class UserIds(RecommendedIds):
    """One user's list."""

    user_id: str


class ManyUserIds(BaseModel):
    """One list per user, in the order of the request."""

    results: list[UserIds]


class BatchUser(BaseModel):
    """Whose list, and how long."""

    user_id: UserIdIn
    k: int = Field(10, ge=1, le=100)
