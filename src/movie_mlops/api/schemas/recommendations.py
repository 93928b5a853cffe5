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
