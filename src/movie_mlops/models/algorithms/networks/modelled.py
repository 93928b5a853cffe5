"""The films that a network knows, their popularity, and scores for the whole catalogue."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.models.algorithms.base import FloatArray, IntArray


class Modelled:
    """Rows of a network's tables for positions in the catalogue.

    `films` are the positions (sorted) that have a row; `prior` is their log popularity around its
    mean; `prior_films` says how fast it fades: exp(-films in the history / prior_films).
    """

    def __init__(
        self,
        movie_ids: IntArray,
        films: NDArray[np.int32],
        prior: FloatArray,
        prior_films: float,
    ) -> None:
        self.movie_ids, self.films = movie_ids, films
        self.prior, self._prior_films = np.asarray(prior), prior_films
        self.rows = np.full(len(movie_ids), -1, np.int64)
        self.rows[films] = np.arange(len(films))

    @classmethod
    def of(cls, movie_ids: IntArray, shares: FloatArray, prior_films: float) -> "Modelled":
        """The films with a share of the interactions."""
        films = np.flatnonzero(shares).astype(np.int32)
        logs = np.log(shares[films].astype(np.float64))
        return cls(movie_ids, films, (logs - logs.mean()).astype(np.float32), prior_films)

    def __len__(self) -> int:
        return len(self.films)

    def known(self, history: NDArray[np.integer[Any]]) -> IntArray:
        """The rows of a history's films; those without one are left out."""
        rows: IntArray = self.rows[np.asarray(history, np.int64)]
        return rows[rows >= 0]

    def baseline(self, length: int | IntArray) -> FloatArray:
        """The prior's part [.., films] in the scores of histories of this length."""
        weights = np.exp(-np.asarray(length) / self._prior_films).astype(np.float32)
        found: FloatArray = np.multiply.outer(weights, self.prior)
        return found

    def spread(self, scores: FloatArray) -> FloatArray:
        """Scores [rows, catalogue] of scores [rows, films]; films that nobody watched come last."""
        if len(self.films) == len(self.movie_ids):
            return scores
        every = np.empty((len(scores), len(self.movie_ids)), np.float32)
        every[:] = scores.min(axis=1, keepdims=True) - 1
        every[:, self.films] = scores
        return every

    def cosines(self, vectors: FloatArray, item: int) -> FloatArray:
        """Likeness of every film of the catalogue to `item`, which itself is at -inf."""
        found = np.full(len(self.movie_ids), -2, np.float32)
        row = self.rows[item]
        if row >= 0:
            norms = np.maximum(np.linalg.norm(vectors, axis=1), 1e-9)
            found[self.films] = vectors @ vectors[row] / (norms * norms[row])
        found[item] = -np.inf
        return found
