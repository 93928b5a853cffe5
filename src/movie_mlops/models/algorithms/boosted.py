"""The rating champion: histogram boosting on metadata and title, with a conformal interval.

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
)
from movie_mlops.models.algorithms.rating_features import (
    COLUMNS,
    TITLE_BUCKETS,
    film_features,
    fit_title_weights,
    title_matrix,
    title_scores,
)
from movie_mlops.models.algorithms.trees import Trees, trees_of_boosting

FOLDS = 5
SMALLEST_ERROR = 0.2
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
        with threadpool_limits(1):  # the same sums on every machine, and serving keeps its core
            self._fit(rows, ratings, seed)
        return self

    def _fit(self, rows: RatingRows, ratings: NDArray[np.float64], seed: int) -> None:
        known_years = rows.start_year[np.isfinite(rows.start_year)]
        self._now = float(known_years.max()) + 1 if len(known_years) else 2_000.0
        folds = np.random.default_rng(seed).permutation(len(rows)) % FOLDS
        film = film_features(rows, self._now)
        features = np.column_stack([film, self._fit_titles(rows, ratings, folds)])
        self._fit_mean(features, ratings, folds, seed)
        ranged = film[:, _RANGED]
        with np.errstate(all="ignore"):
            bounds = np.stack([np.nanmin(ranged, axis=0), np.nanmax(ranged, axis=0)])
        self._range = np.nan_to_num(bounds)

    def predict(self, rows: RatingRows) -> RatingPredictions:
        """See RatingRegressor."""
        film = film_features(rows, self._now)
        features = np.column_stack([film, title_scores(rows.title, self._title_weights)])
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
            "columns": [*COLUMNS, "title_score"],
            "now": self._now,
            "base": self._base,
            "error_base": self._error_base,
            "quantile": self._quantile,
        }
        arrays = {
            **self._mean.arrays("mean"),
            **self._error.arrays("error"),
            "title_weights": self._title_weights,
            "range": self._range,
        }
        return arrays, card

    @classmethod
    def from_artifact(cls, arrays: Mapping[str, NDArray[Any]], card: Card) -> Self:
        """See RatingRegressor."""
        model = cls(**card["parameters"])
        columns = len(COLUMNS) + 1
        model._mean = Trees.from_arrays(arrays, "mean", columns)
        model._error = Trees.from_arrays(arrays, "error", columns)
        weights = arrays.get("title_weights")
        if weights is None or weights.shape != (TITLE_BUCKETS,) or not np.isfinite(weights).all():
            message = "the artifact's title weights are missing, of wrong shape, or no numbers"
            raise ArtifactCorruptError(message)
        model._title_weights = weights
        model._range = checked_range(arrays, len(_RANGED))
        model._now, model._base = float(card["now"]), float(card["base"])
        model._error_base, model._quantile = float(card["error_base"]), float(card["quantile"])
        return model

    def _fit_titles(
        self, rows: RatingRows, ratings: NDArray[np.float64], folds: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Fit the title weights on all rows; return each row's score from the other folds."""
        matrix, centred = title_matrix(rows.title), ratings - ratings.mean()
        scores = np.empty(len(rows))
        for fold in range(FOLDS):
            train, held = folds != fold, folds == fold
            weights = fit_title_weights(matrix[train], centred[train], self._title_strength)
            scores[held] = matrix[held] @ weights
        self._title_weights = fit_title_weights(matrix, centred, self._title_strength)
        return scores

    def _fit_mean(
        self,
        features: NDArray[np.float64],
        ratings: NDArray[np.float64],
        folds: NDArray[np.int64],
        seed: int,
    ) -> None:
        """Fit rating and error models; calibrate on what each fold's models did not see."""
        errors, sizes = np.empty(len(ratings)), np.empty(len(ratings))
        for fold in range(FOLDS):
            train, held = folds != fold, folds == fold
            booster = self._booster(seed, self._iterations).fit(features[train], ratings[train])
            errors[held] = np.abs(ratings[held] - booster.predict(features[held]))
        for fold in range(FOLDS):
            train, held = folds != fold, folds == fold
            booster = self._booster(seed, self._iterations // 4).fit(features[train], errors[train])
            sizes[held] = booster.predict(features[held])
        scores = errors / np.maximum(sizes, SMALLEST_ERROR)
        self._quantile = conformal_quantile(scores, self.level)
        mean = self._booster(seed, self._iterations).fit(features, ratings)
        error = self._booster(seed, self._iterations // 4).fit(features, errors)
        self._mean, self._base = trees_of_boosting(mean)
        self._error, self._error_base = trees_of_boosting(error)

    def _booster(self, seed: int, iterations: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415 (training only)

        return HistGradientBoostingRegressor(
            max_iter=max(iterations, 10),
            learning_rate=self._learning_rate,
            max_leaf_nodes=31,
            min_samples_leaf=20,
            l2_regularization=1.0,
            max_features=0.3,
            early_stopping=False,
            random_state=seed,
        )
