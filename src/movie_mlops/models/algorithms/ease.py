"""EASE (Steck 2019): ridge regression from each film to all others, in closed form."""

from typing import Any, ClassVar, Self

import numpy as np

from movie_mlops.models.algorithms.base import FloatArray, TrainingHistories
from movie_mlops.models.algorithms.film_maps import DecayedMaps
from movie_mlops.models.algorithms.popularity import interaction_shares

RIDGE_PER_USER = 0.1
"""lambda = 600 for the 6,040 users of MovieLens-1M, and in proportion for others."""


class Ease(DecayedMaps):
    """A map that predicts each film from the others of a history; see `DecayedMaps`.

    Trained without order. When scoring, a film of `recency` places ago counts 1/e of the last
    one (None: all count alike, and the order of a history does not matter): on by default, as it
    ranks near-last films twice as well. `ridge` None: `RIDGE_PER_USER` times users.
    """

    name: ClassVar[str] = "ease"

    def __init__(
        self,
        ridge: float | None = None,
        recency: float | None = 20.0,
        max_memory_mb: float = 256.0,
        training_memory_mb: float = 1_536.0,
    ) -> None:
        super().__init__(
            [recency],
            {
                "ridge": ridge,
                "recency": recency,
                "max_memory_mb": max_memory_mb,
                "training_memory_mb": training_memory_mb,
            },
        )

    def _solved_bytes(self) -> int:
        """The inverse and what it is made of, float32."""
        return 12

    def fit(self, histories: TrainingHistories, seed: int = 0) -> Self:  # noqa: ARG002
        """Solve in closed form, on one BLAS thread so that the bytes are always the same.

        With fewer users than films, through the users' side (Woodbury's identity).
        """
        # threadpoolctl and scipy.sparse are needed for training only
        from scipy.sparse import csr_matrix  # noqa: PLC0415
        from threadpoolctl import threadpool_limits  # noqa: PLC0415

        shares = interaction_shares(histories)
        modelled = self._most_watched(histories.counts())
        size = len(modelled)
        if not size:
            none = np.empty((0, 0), np.float32)
            self._keep(histories.movie_ids, modelled, shares, shares, [none])
            return self
        rows = np.full(histories.item_count, -1, np.int64)
        rows[modelled] = np.arange(size)
        films = rows[histories.items]
        users = np.repeat(np.arange(histories.user_count), np.diff(histories.indptr))
        known = films >= 0
        watched = csr_matrix(
            (np.ones(int(known.sum()), np.float32), (users[known], films[known])),
            shape=(histories.user_count, size),
        )
        watched.data[:] = 1  # a film watched twice counts once
        ridge = self._parameters["ridge"] or RIDGE_PER_USER * histories.user_count
        solve = _by_users if histories.user_count < size else _by_films
        with threadpool_limits(limits=1, user_api="blas"):
            inverse = solve(watched, ridge)
        diagonal = inverse.diagonal().copy()
        np.divide(inverse, -diagonal, out=inverse)
        inverse.reshape(-1)[:: size + 1] = 0
        self._keep(histories.movie_ids, modelled, shares, shares, [inverse])
        return self


def _by_films(watched: Any, ridge: float) -> FloatArray:
    """(X' X + ridge)^-1 in float32 by Cholesky, [films, films]."""
    from scipy.linalg.lapack import spotrf, spotri  # noqa: PLC0415

    gram = (watched.T @ watched).toarray(order="C")
    gram.reshape(-1)[:: len(gram) + 1] += np.float32(ridge)
    factor, _ = spotrf(gram.T, lower=1, overwrite_a=1)
    inverse, _ = spotri(factor, lower=1, overwrite_c=1)
    upper: FloatArray = inverse.T  # row-major; its upper triangle is filled
    for start in range(0, len(upper), 512):
        upper[start : start + 512, :start] = upper[:start, start : start + 512].T
        block = upper[start : start + 512, start : start + 512]
        block[:] = np.triu(block) + np.triu(block, 1).T
    return upper


def _by_users(watched: Any, ridge: float) -> FloatArray:
    """The same by Woodbury: (1 - X' (X X' + ridge)^-1 X) / ridge."""
    from scipy.linalg import cholesky, solve_triangular  # noqa: PLC0415

    gram = (watched @ watched.T).toarray(order="C")
    gram.reshape(-1)[:: len(gram) + 1] += np.float32(ridge)
    lower = cholesky(gram, lower=True, check_finite=False)
    half = solve_triangular(lower, watched.toarray(), lower=True, check_finite=False)
    inverse: FloatArray = half.T @ half
    inverse *= -1 / np.float32(ridge)
    inverse.reshape(-1)[:: len(inverse) + 1] += 1 / np.float32(ridge)
    return inverse
