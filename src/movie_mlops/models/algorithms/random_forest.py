"""The guide's rating model: a random forest on year, runtime and votes; the baseline."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.errors import ArtifactCorruptError, TrainingDataError
from movie_mlops.models.algorithms.base import Arrays, Card, RatingPredictions, RatingRows
from movie_mlops.models.algorithms.rating_features import BASIC_COLUMNS, basic_features
from movie_mlops.models.algorithms.trees import Trees, trees_of_forest

FEWEST_ROWS = 50


class RandomForest:
    """scikit-learn's forest to fit, flat arrays to predict; interval from out-of-bag errors."""

    name: ClassVar[str] = "random_forest"

    def __init__(self, trees: int = 100, level: float = 0.9) -> None:
        self.level = level
        self._tree_count = trees

    def fit(self, rows: RatingRows, ratings: NDArray[np.float64], seed: int = 0) -> Self:
        """See RatingRegressor."""
        if len(rows) < FEWEST_ROWS:
            message = f"{len(rows)} rated films are too few; at least {FEWEST_ROWS} are needed"
            raise TrainingDataError(message)
        from sklearn.ensemble import RandomForestRegressor  # noqa: PLC0415 (training only)

        features = without_empty_columns(basic_features(rows)).astype(np.float32)
        forest = RandomForestRegressor(
            self._tree_count, random_state=seed, n_jobs=1, oob_score=True
        ).fit(features, ratings)
        self._trees = trees_of_forest(forest)
        errors = np.abs(ratings - forest.oob_prediction_)
        self._half_width = conformal_quantile(errors, self.level)
        self._range = range_of(basic_features(rows))
        return self

    def predict(self, rows: RatingRows) -> RatingPredictions:
        """See RatingRegressor."""
        features = basic_features(rows).astype(np.float32).astype(np.float64)
        rating = self._trees.sums(features) / len(self._trees.roots)
        return RatingPredictions(
            rating,
            np.maximum(rating - self._half_width, 1.0),
            np.minimum(rating + self._half_width, 10.0),
            inside(features, self._range),
        )

    def artifact(self) -> tuple[Arrays, Card]:
        """See RatingRegressor."""
        card = {
            "algorithm": self.name,
            "parameters": {"trees": self._tree_count, "level": self.level},
            "columns": list(BASIC_COLUMNS),
            "half_width": self._half_width,
        }
        return {**self._trees.arrays("trees"), "range": self._range}, card

    @classmethod
    def from_artifact(cls, arrays: Mapping[str, NDArray[Any]], card: Card) -> Self:
        """See RatingRegressor."""
        model = cls(**card["parameters"])
        model._trees = Trees.from_arrays(arrays, "trees", len(BASIC_COLUMNS))
        model._half_width = float(card["half_width"])
        model._range = checked_range(arrays, len(BASIC_COLUMNS))
        return model


def conformal_quantile(scores: NDArray[np.float64], level: float) -> float:
    """The finite-sample quantile of split conformal prediction (Lei et al. 2018, eq. 5)."""
    place = min(1.0, np.ceil((len(scores) + 1) * level) / len(scores))
    return float(np.quantile(scores, place, method="higher"))


def without_empty_columns(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns that the source leaves empty become 0, so that no tree splits on them."""
    return np.where(np.isnan(features).all(axis=0), 0.0, features)


def range_of(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lowest and highest present value per column, shape [2, columns]; without any, no bound."""
    widest = np.finfo(np.float64).max
    low = np.where(np.isnan(features), widest, features).min(axis=0)
    high = np.where(np.isnan(features), -widest, features).max(axis=0)
    empty = low > high
    return np.stack([np.where(empty, -widest, low), np.where(empty, widest, high)])


def inside(features: NDArray[np.float64], bounds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Rows whose present values all lie between the bounds [2, columns]."""
    outside = (features < bounds[0]) | (features > bounds[1])
    within: NDArray[np.bool_] = ~outside.any(axis=1)
    return within


def checked_range(arrays: Mapping[str, NDArray[Any]], columns: int) -> NDArray[np.float64]:
    """The bounds of an artifact.

    Raises:
        ArtifactCorruptError: missing, of wrong shape, or not finite.
    """
    found = arrays.get("range")
    if found is None or found.shape != (2, columns) or not np.isfinite(found).all():
        message = "the artifact's range is missing or of wrong shape"
        raise ArtifactCorruptError(message)
    return found
