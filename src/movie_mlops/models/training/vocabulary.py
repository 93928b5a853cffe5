"""A fitted recommender asked about another catalogue than its own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.models.algorithms.base import FloatArray, IntArray, Scorer, scores_of


def on_vocabulary(model: Scorer, movie_ids: IntArray) -> Scorer:
    """The model with its positions meaning `movie_ids`; the model itself when they do already."""
    return model if np.array_equal(model.movie_ids, movie_ids) else _OnVocabulary(model, movie_ids)


class _OnVocabulary:
    """Films that the model does not know get its lowest score."""

    def __init__(self, model: Scorer, movie_ids: IntArray) -> None:
        self.movie_ids = movie_ids
        self._model = model
        place = np.searchsorted(model.movie_ids, movie_ids)
        self._place = np.minimum(place, len(model.movie_ids) - 1)
        self._known = model.movie_ids[self._place] == movie_ids

        self.reads_times = bool(getattr(model, "reads_times", False))

    def score(
        self,
        histories: Sequence[NDArray[np.integer[Any]]],
        times: Sequence[IntArray] | None = None,
    ) -> FloatArray:
        """See TimedScorer."""
        known = [self._known[history] for history in histories]
        inner = [self._place[of[kept]] for of, kept in zip(histories, known, strict=True)]
        at = times and [of[kept] for of, kept in zip(times, known, strict=True)]
        scores = scores_of(self._model, inner, at)
        lowest = scores.min(axis=1, keepdims=True)
        return np.where(self._known, scores[:, self._place], lowest).astype(np.float32)
