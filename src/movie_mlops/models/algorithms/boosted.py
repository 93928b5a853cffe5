"""The rating champion: histogram boosting on metadata and titles, with a conformal interval.

The interval is split conformal on errors scaled by a second model of their size (normalised
conformal prediction, Papadopoulos et al. 2002), both measured out of fold.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from movie_mlops.domain.errors import ArtifactCorruptError, TrainingDataError
from movie_mlops.models.algorithms.base import Arrays, Card, RatingPredictions, RatingRows
from movie_mlops.models.algorithms.random_forest import (
    FEWEST_ROWS,
    checked_range,
    conformal_quantile,
    inside,
    range_of,
    without_empty_columns,
)
from movie_mlops.models.algorithms.rating_features import (
    COLUMNS,
    TITLE_BUCKETS,
    film_features,
    fit_title_weights,
    genre_masks,
    title_matrix,
    title_scores,
    title_texts,
)
from movie_mlops.models.algorithms.trees import Trees, trees_of_boosting

FOLDS = 5
SMALLEST_ERROR = 0.2
GENRE_SET_PRIOR = 20.0  # films of the mean rating that each set of genres starts with
_RANGED = [COLUMNS.index(name) for name in ("start_year", "runtime_minutes", "log_votes")]


class Boosted:
    """scikit-learn's histogram boosting to fit, flat arrays to predict."""

    name: ClassVar[str] = "boosted"

    def __init__(
        self,
        level: float = 0.9,
        iterations: int = 600,
        learning_rate: float = 0.03,
        title_strength: float = 6.0,
    ) -> None:
        self.level = level
        self._iterations = iterations
        self._learning_rate = learning_rate
        self._title_strength = title_strength

    def fit(self, rows: RatingRows, ratings: NDArray[np.float64], seed: int = 0) -> Self:
        """See RatingRegressor."""
        if len(rows) < FEWEST_ROWS:
            message = f"{len(rows)} rated films are too few; at least {FEWEST_ROWS} are needed"
            raise TrainingDataError(message)
        import sklearn.ensemble  # noqa: F401, PLC0415 (a limit holds for libraries loaded before it)

        with threadpool_limits(1):  # the same sums on every machine, and serving keeps its core
            self._fit(rows, ratings, seed)
        return self

    def _fit(self, rows: RatingRows, ratings: NDArray[np.float64], seed: int) -> None:
        known_years = rows.start_year[np.isfinite(rows.start_year)]
        self._now = float(known_years.max()) + 1 if len(known_years) else 2_000.0
        folds = np.random.default_rng(seed).permutation(len(rows)) % FOLDS
        film = film_features(rows, self._now)
        titles = self._fit_titles(title_texts(rows), ratings, folds)
        genres = self._fit_genres(genre_masks(rows), ratings, folds)
        features = np.column_stack([film, titles, genres])
        self._fit_mean(without_empty_columns(features), ratings, folds, seed)
        self._range = range_of(film[:, _RANGED])

    def predict(self, rows: RatingRows) -> RatingPredictions:
        """See RatingRegressor."""
        film = film_features(rows, self._now)
        titles = title_scores(title_texts(rows), self._title_weights)
        features = np.column_stack([film, titles, self._genre_scores(genre_masks(rows))])
        rating = np.clip(self._base + self._mean.sums(features), 1.0, 10.0)
        size = np.maximum(self._error_base + self._error.sums(features), SMALLEST_ERROR)
        half = self._quantile * size
        return RatingPredictions(
            rating,
            np.maximum(rating - half, 1.0),
            np.minimum(rating + half, 10.0),
            inside(film[:, _RANGED], self._range),
        )

    def artifact(self) -> tuple[Arrays, Card]:
        """See RatingRegressor."""
        card = {
            "algorithm": self.name,
            "parameters": {
                "level": self.level,
                "iterations": self._iterations,
                "learning_rate": self._learning_rate,
                "title_strength": self._title_strength,
            },
            "columns": [*COLUMNS, "title_score", "genres_score"],
            "now": self._now,
            "base": self._base,
            "error_base": self._error_base,
            "quantile": self._quantile,
        }
        arrays = {
            **self._mean.arrays("mean"),
            **self._error.arrays("error"),
            "title_weights": self._title_weights,
            "genre_sets": self._genre_sets,
            "genre_means": self._genre_means,
            "range": self._range,
        }
        return arrays, card

    @classmethod
    def from_artifact(cls, arrays: Mapping[str, NDArray[Any]], card: Card) -> Self:
        """See RatingRegressor."""
        model = cls(**card["parameters"])
        columns = len(COLUMNS) + 2
        model._mean = Trees.from_arrays(arrays, "mean", columns)
        model._error = Trees.from_arrays(arrays, "error", columns)
        weights = arrays.get("title_weights")
        if weights is None or weights.shape != (TITLE_BUCKETS,) or not np.isfinite(weights).all():
            message = "the artifact's title weights are missing, of wrong shape, or no numbers"
            raise ArtifactCorruptError(message)
        sets, means = arrays.get("genre_sets"), arrays.get("genre_means")
        if sets is None or means is None or sets.shape != means.shape or not len(sets):
            message = "the artifact's genre sets are missing or of wrong shape"
            raise ArtifactCorruptError(message)
        model._title_weights, model._genre_sets, model._genre_means = weights, sets, means
        model._range = checked_range(arrays, len(_RANGED))
        model._now, model._base = float(card["now"]), float(card["base"])
        model._error_base, model._quantile = float(card["error_base"]), float(card["quantile"])
        return model

    def _fit_titles(
        self, titles: list[str], ratings: NDArray[np.float64], folds: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Fit the title weights on all rows; return each row's score from the other folds."""
        matrix, centred = title_matrix(titles), ratings - ratings.mean()
        scores = np.empty(len(titles))
        for fold in range(FOLDS):
            train, held = folds != fold, folds == fold
            weights = fit_title_weights(matrix[train], centred[train], self._title_strength)
            scores[held] = matrix[held] @ weights
        self._title_weights = fit_title_weights(matrix, centred, self._title_strength)
        return scores

    def _fit_genres(
        self, masks: NDArray[np.int64], ratings: NDArray[np.float64], folds: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Fit the mean of each set of genres, drawn to the middle; scores as for titles."""
        centred = ratings - ratings.mean()
        scores = np.empty(len(masks))
        for fold in (*range(FOLDS), -1):  # the last round is on all rows, and stays
            train = folds != fold
            self._genre_sets, place = np.unique(masks[train], return_inverse=True)
            sums = np.bincount(place, centred[train])
            self._genre_means = sums / (np.bincount(place) + GENRE_SET_PRIOR)
            held = folds == fold
            scores[held] = self._genre_scores(masks[held])
        return scores

    def _genre_scores(self, masks: NDArray[np.int64]) -> NDArray[np.float64]:
        place = np.searchsorted(self._genre_sets, masks).clip(max=len(self._genre_sets) - 1)
        return np.where(self._genre_sets[place] == masks, self._genre_means[place], 0.0)

    def _fit_mean(
        self,
        features: NDArray[np.float64],
        ratings: NDArray[np.float64],
        folds: NDArray[np.int64],
        seed: int,
    ) -> None:
        """Fit rating and error models; calibrate on what each fold's models did not see.

        As many trees are kept as were best over the folds.
        """
        staged = np.empty((len(ratings), self._iterations), np.float32)
        for fold in range(FOLDS):
            train, held = folds != fold, folds == fold
            booster = self._booster(seed, self._iterations).fit(features[train], ratings[train])
            staged[held] = np.stack(list(booster.staged_predict(features[held])), axis=1)
        best = int(((staged - ratings[:, None]) ** 2).mean(axis=0).argmin()) + 1
        errors = np.abs(ratings - staged[:, best - 1])
        sizes = np.empty(len(ratings))
        for fold in range(FOLDS):
            train, held = folds != fold, folds == fold
            booster = self._booster(seed, best // 4 + 1).fit(features[train], errors[train])
            sizes[held] = booster.predict(features[held])
        scores = errors / np.maximum(sizes, SMALLEST_ERROR)
        self._quantile = conformal_quantile(scores, self.level)
        mean = self._booster(seed, best).fit(features, ratings)
        error = self._booster(seed, best // 4 + 1).fit(features, errors)
        self._mean, self._base = trees_of_boosting(mean)
        self._error, self._error_base = trees_of_boosting(error)

    def _booster(self, seed: int, iterations: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415 (training only)

        return HistGradientBoostingRegressor(
            max_iter=iterations,
            learning_rate=self._learning_rate,
            max_leaf_nodes=31,
            min_samples_leaf=20,
            l2_regularization=1.0,
            max_features=0.3,
            early_stopping=False,
            random_state=seed,
        )
