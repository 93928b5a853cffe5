"""The two protocols of algorithms, their training data and what an artifact is.

An artifact is a set of named arrays plus a JSON card; `models/bundle.py` stores both.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, Self, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
Card = dict[str, Any]
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Progress = Callable[[str, int, int | None], None]
"""What is being done, how much of it is done, how much there is (None: nobody knows)."""


@dataclass(frozen=True, slots=True)
class TrainingHistories:
    """Positive interactions of many users, in order of time, in one flat layout.

    `items[indptr[u]:indptr[u + 1]]` are user u's films, oldest first, as positions in
    `movie_ids` (sorted, the whole catalogue: films without interactions are in it too).
    `times` are microseconds since 1970, or None where the source has no times.
    """

    movie_ids: IntArray
    user_ids: tuple[str, ...]
    indptr: IntArray
    items: NDArray[np.int32]
    times: IntArray | None = None

    @property
    def user_count(self) -> int:
        """Number of users."""
        return len(self.indptr) - 1

    @property
    def item_count(self) -> int:
        """Number of films in the catalogue."""
        return len(self.movie_ids)

    def of(self, user: int) -> NDArray[np.int32]:
        """The films of the user at this position, oldest first."""
        return self.items[self.indptr[user] : self.indptr[user + 1]]

    def times_of(self, users: Iterable[int]) -> list[IntArray] | None:
        """The times of each user's acts, in the order of `of`; None where there are none."""
        if self.times is None:
            return None
        return [self.times[self.indptr[user] : self.indptr[user + 1]] for user in users]

    def counts(self) -> IntArray:
        """Interactions per film, shape [item_count]."""
        return np.bincount(self.items, minlength=self.item_count).astype(np.int64)


class Scorer(Protocol):
    """What evaluation needs of a model.

    `movie_ids` (int64 [items], sorted) is the vocabulary; all positions refer to it.
    """

    movie_ids: IntArray

    def score(self, histories: Sequence[NDArray[np.integer[Any]]]) -> FloatArray:
        """Scores [len(histories), items] for histories of positions, oldest first.

        Every score is finite; an empty history gives the popularity order. Films already in
        the history are scored too: the caller leaves them out. The array is made for the call:
        the caller may write to it.
        """
        ...


class TimedScorer(Scorer, Protocol):
    """A model that can tell how far apart in time the acts of a history are."""

    reads_times: bool
    """Whether this fitted model does: only then are its histories' times worth fetching."""

    def score(
        self,
        histories: Sequence[NDArray[np.integer[Any]]],
        times: Sequence[IntArray] | None = None,
    ) -> FloatArray:
        """See Scorer; `times` are those of each history's acts, microseconds since 1970."""
        ...


def scores_of(
    model: Scorer,
    histories: Sequence[NDArray[np.integer[Any]]],
    times: Sequence[IntArray] | None,
) -> FloatArray:
    """The model's scores, with the histories' times for one that reads them (see Scorer)."""
    if times is None or not getattr(model, "reads_times", False):
        return model.score(histories)
    return cast("TimedScorer", model).score(histories, times)


@runtime_checkable
class Recommender(Scorer, Protocol):
    """Scores every film of the catalogue for a history; keeps no parameter per user."""

    name: ClassVar[str]

    def fit(self, histories: TrainingHistories, seed: int = 0) -> Self:
        """Fit on all rows and return self; the same input and seed give the same arrays.

        Raises:
            TrainingDataError: no interaction at all.
        """
        ...

    def contributions(self, history: NDArray[np.integer[Any]], item: int) -> FloatArray:
        """What each film of the history adds to the score of `item`, shape [len(history)].

        Exact for linear models: score = sum of contributions + what is there without history.
        For others: what the score loses when that film alone is taken out of the history.
        """
        ...

    def similar(self, item: int) -> FloatArray:
        """Similarity of every film to `item`, shape [items]; the film itself is -inf."""
        ...

    def artifact(self) -> tuple[Arrays, Card]:
        """Everything that `from_artifact` needs: finite arrays and a JSON-ready card."""
        ...

    @classmethod
    def from_artifact(cls, arrays: Mapping[str, NDArray[Any]], card: Card) -> Self:
        """Rebuild the fitted model; arrays may be read-only memory maps.

        Raises:
            ArtifactCorruptError: an array is missing, of wrong shape, or not finite.
        """
        ...


def contributions_of(
    model: Recommender,
    history: NDArray[np.integer[Any]],
    items: NDArray[np.integer[Any]],
    times: IntArray | None = None,
) -> FloatArray:
    """What each film of the history adds to each item, [items, len(history)].

    A model that has a `contributions_of` of its own is much faster than film by film. `times`
    are for one that reads them.
    """
    at = {"times": times} if times is not None and getattr(model, "reads_times", False) else {}
    # isinstance of a protocol would cost more than the sums
    own: Callable[..., FloatArray] | None = getattr(model, "contributions_of", None)
    if own is not None:
        return own(history, items, **at)
    rows = [model.contributions(history, int(item), **at) for item in items]
    return np.stack(rows) if rows else np.empty((0, len(history)), np.float32)


def baseline_of(model: Any, length: int | IntArray) -> FloatArray:
    """A model's `baseline`; of one that has none, its scores without history."""
    if hasattr(model, "baseline"):
        own: FloatArray = model.baseline(length)
        return own
    nothing: FloatArray = model.score([np.empty(0, np.int64)])[0]
    return np.broadcast_to(nothing, (*np.shape(length), len(nothing)))


@runtime_checkable
class Iterative(Protocol):
    """An algorithm that is fitted in epochs and tells how far it is."""

    progress: Progress | None
    """Called as (`epoch 2 of 5, loss 3.1`, 2, 5) after each epoch when it is set."""


@dataclass(frozen=True, slots=True)
class RatingRows:
    """Films for rating prediction, column-wise; missing numbers are NaN, missing texts "".

    `directors` and `cast` (first billed first) are empty where the source has no people.
    """

    title: Sequence[str]
    original_title: Sequence[str]
    start_year: NDArray[np.float64]
    runtime_minutes: NDArray[np.float64]
    num_votes: NDArray[np.float64]
    genres: Sequence[Sequence[str]]
    adult: NDArray[np.bool_]
    directors: Sequence[Sequence[str]] = ()
    cast: Sequence[Sequence[str]] = ()

    def __len__(self) -> int:
        return len(self.title)

    def take(self, places: IntArray) -> "RatingRows":
        """The rows at these places."""

        def of(column: Any) -> Any:
            if isinstance(column, np.ndarray):
                return column[places]
            return [column[place] for place in places] if len(column) else ()

        return RatingRows(*(of(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class RatingPredictions:
    """Ratings 1–10 with interval bounds and whether the row lies inside the training range."""

    rating: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    in_range: NDArray[np.bool_]


@runtime_checkable
class RatingRegressor(Protocol):
    """Predicts a film's mean rating with an interval; served from flat arrays only."""

    name: ClassVar[str]
    level: float

    def fit(self, rows: RatingRows, ratings: NDArray[np.float64], seed: int = 0) -> Self:
        """Fit and calibrate the interval on rows held out inside; return self.

        Raises:
            TrainingDataError: fewer than 50 rows.
        """
        ...

    def predict(self, rows: RatingRows) -> RatingPredictions:
        """Predict; unknown genres are ignored, missing numbers are handled."""
        ...

    def artifact(self) -> tuple[Arrays, Card]:
        """Everything that `from_artifact` needs: arrays and a JSON-ready card."""
        ...

    @classmethod
    def from_artifact(cls, arrays: Mapping[str, NDArray[Any]], card: Card) -> Self:
        """Rebuild the fitted model.

        Raises:
            ArtifactCorruptError: an array is missing, of wrong shape, or not finite.
        """
        ...
