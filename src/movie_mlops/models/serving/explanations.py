"""Why a film has its score: what each film of the history gave, to the last decimal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.interactions import UserId
from movie_mlops.domain.movies import MovieId
from movie_mlops.models.algorithms.base import (
    FloatArray,
    IntArray,
    Recommender,
    baseline_of,
    contributions_of,
)

_CLOSE = 1e-4  # of the largest part: what single precision leaves of a sum of hundreds


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one film of the history gave; `age` 0 is the film watched last."""

    movie_id: MovieId
    contribution: float
    age: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """A score taken apart.

    Where `exact`, baseline + contributions = score: they are the terms of the sum that the score
    is. Otherwise a contribution is what the score would lose without that film alone, and the
    baseline is the score without any history. `rank` is the place among all films that the user
    may be shown, None for a film that is hidden.
    """

    user_id: UserId
    movie_id: MovieId
    score: float
    baseline: float
    exact: bool
    contributions: tuple[Contribution, ...]
    rank: int | None
    model_version: str
    snapshot: str


def taken_apart(
    model: Recommender,
    films: NDArray[np.int64],
    item: int,
    score: float,
    times: IntArray | None = None,
) -> tuple[float, bool, tuple[Contribution, ...]]:
    """Baseline, whether it adds up, and the contributions of `films` (positions), largest first."""
    baseline = float(baseline_of(model, len(films))[item])
    gave = np.empty(0, np.float32)
    if films.size:
        gave = contributions_of(model, films, np.array([item]), times)[0]
    rest = abs(baseline + float(gave.sum(dtype=np.float64)) - score)
    exact = rest <= _CLOSE * max(abs(baseline), float(np.abs(gave).sum()), abs(score), 1e-6)
    if not exact:
        baseline = float(model.score([films[:0]])[0, item])
    ids = np.asarray(model.movie_ids)[films]
    parts = tuple(
        Contribution(MovieId(int(ids[at])), float(gave[at]), len(films) - 1 - int(at))
        for at in np.argsort(-gave, kind="stable")
    )
    return baseline, exact, parts


def reasons(
    model: Recommender,
    watched: IntArray,
    films: NDArray[np.int64],
    items: Sequence[int],
    times: IntArray | None = None,
) -> list[tuple[MovieId, ...]]:
    """For each item the past films that gave most; the second only with at least half as much.

    `films` are positions in the model's vocabulary, `watched` the ids of the same films.
    """
    if not films.size or not items:
        return [()] * len(items)
    gave = contributions_of(model, films, np.asarray(items), times)
    first = gave.argmax(axis=1)
    places = np.arange(len(items))
    most = gave[places, first]
    rest: FloatArray = np.array(gave)
    rest[places, first] = -np.inf
    second = rest.argmax(axis=1)
    enough = rest[places, second] >= most / 2  # never where there is only one film: -inf
    columns: Any = (watched[first], most > 0, watched[second], enough)
    return [
        ((MovieId(one), MovieId(two)) if has_two else (MovieId(one),)) if has_one else ()
        for one, has_one, two, has_two in zip(*(each.tolist() for each in columns), strict=True)
    ]
