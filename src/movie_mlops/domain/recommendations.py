"""Answers of the two models."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from movie_mlops.domain.interactions import UserId
from movie_mlops.domain.movies import MovieId

Path = Literal["personal", "newcomer", "popular", "batch", "static"]
"""How a list came to be: the user's history, too short a history, no history, or a fallback."""


class ScoredMovie(NamedTuple):  # made by the dozen for each list: a tuple is made fastest
    """One place of a list; `because` are the past films that gave most of the score.

    `new_like` is set for a film that the model does not know yet: the film most like it.
    """

    movie_id: MovieId
    score: float
    because: tuple[MovieId, ...] = ()
    new_like: MovieId | None = None


@dataclass(frozen=True, slots=True)
class RecommendationList:
    """A ranked list and what produced it."""

    user_id: UserId
    path: Path
    model_version: str
    snapshot: str
    items: tuple[ScoredMovie, ...]


@dataclass(frozen=True, slots=True)
class RatingPrediction:
    """A rating on the 1–10 scale of the sources with its interval of nominal `level`."""

    rating: float
    low: float
    high: float
    level: float
    in_range: bool
    model_version: str
