"""How often each film was watched: the baseline, and the order for who has no history."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.errors import TrainingDataError
from movie_mlops.models.algorithms.artifacts import checked
from movie_mlops.models.algorithms.base import (
    Arrays,
    Card,
    FloatArray,
    IntArray,
    TrainingHistories,
)


class Popularity:
    """Every film's share of all interactions; the history changes nothing."""

    name: ClassVar[str] = "popularity"

    def __init__(self) -> None:
        self.movie_ids: IntArray = np.empty(0, np.int64)
        self.shares: FloatArray = np.empty(0, np.float32)

    def fit(self, histories: TrainingHistories, seed: int = 0) -> Self:  # noqa: ARG002
        """Count; see the protocol."""
        self.movie_ids = histories.movie_ids
        self.shares = interaction_shares(histories)
        return self

    def score(self, histories: Sequence[NDArray[np.integer[Any]]]) -> FloatArray:
        """The same shares for every history."""
        return np.tile(self.shares, (len(histories), 1))

    def contributions(self, history: NDArray[np.integer[Any]], item: int) -> FloatArray:  # noqa: ARG002
        """No film of the history adds anything."""
        return np.zeros(len(history), np.float32)

    def similar(self, item: int) -> FloatArray:
        """Counting knows no likeness: the popular films come first."""
        return without(np.array(self.shares), item)

    def artifact(self) -> tuple[Arrays, Card]:
        """Shares and vocabulary."""
        card = {"algorithm": self.name, "parameters": {}}
        return {"movie_ids": self.movie_ids, "shares": self.shares}, card

    @classmethod
    def from_artifact(cls, arrays: Mapping[str, NDArray[Any]], card: Card) -> Self:  # noqa: ARG003
        """Rebuild; see the protocol."""
        model = cls()
        model.movie_ids = checked(arrays, "movie_ids", (None,))
        model.shares = checked(arrays, "shares", (len(model.movie_ids),))
        return model


def interaction_shares(histories: TrainingHistories) -> FloatArray:
    """Every film's share of all interactions, shape [items].

    Raises:
        TrainingDataError: no interaction at all.
    """
    counts = histories.counts()
    total = counts.sum()
    if total == 0:
        message = "no positive interaction to learn from: collect some first"
        raise TrainingDataError(message)
    shares: FloatArray = (counts / total).astype(np.float32)
    return shares


def without(scores: FloatArray, item: int) -> FloatArray:
    """The same array, in place, with the film itself at -inf."""
    scores[item] = -np.inf
    return scores
