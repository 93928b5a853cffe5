"""The rating champion: boosting on metadata, titles and people, with a conformal interval.

The interval is split conformal on errors scaled by a second model of their size (normalised
conformal prediction, Papadopoulos et al. 2002), both measured out of fold.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from movie_mlops.domain.errors import TrainingDataError
from movie_mlops.models.algorithms.base import Arrays, Card, RatingPredictions, RatingRows
from movie_mlops.models.algorithms.boosters import Recipe, available_learner, boost
from movie_mlops.models.algorithms.leaf_tables import LeafTables
from movie_mlops.models.algorithms.random_forest import (
    FEWEST_ROWS,
    checked_range,
    conformal_quantile,
    inside,
    range_of,
    without_empty_columns,
)
from movie_mlops.models.algorithms.rating_encoders import (
    Encoder,
    GenreSets,
    People,
    TitleGrams,
    out_of_fold,
)
from movie_mlops.models.algorithms.rating_features import (
    COLUMNS,
    Film,
    film_features,
    film_row,
    films_of,
)
from movie_mlops.models.algorithms.title_neighbours import TitleNeighbours
from movie_mlops.models.algorithms.trees import Trees

FOLDS = 5
ROUNDS = 1_500
FEWEST_ROUNDS = 300  # few films are learnt by heart long before
COPIES = 2  # boosters of different random splits whose mean is the rating
SMALLEST_ERROR = 0.2
ENCODERS: tuple[type[Encoder], ...] = (TitleGrams, TitleNeighbours, GenreSets, People)
ALL_COLUMNS = (*COLUMNS, *(column for encoder in ENCODERS for column in encoder.columns))
_RANGED = [COLUMNS.index(name) for name in ("start_year", "runtime_minutes", "log_votes")]
# columns that hang on one thing, or are the same for most films
_TOGETHER = [
    {ALL_COLUMNS.index(name) for name in names}
    for names in (
        [name for name in ALL_COLUMNS if name.startswith("genre")] + ["first_genre"],
        ["start_year", "age", "decade"],
        ["adult", "title_words", "title_digits", "title_foreign", "title_colon", "title_sequel",
         "title_differs", *People.columns],
    )
]  # fmt: skip
Values = NDArray[np.float64]


class Boosted:
    """LightGBM, CatBoost or scikit-learn's histograms to fit, bit tables to predict."""

    name: ClassVar[str] = "boosted"

    def __init__(
        self,
        level: float = 0.9,
        learner: str | None = None,
        rounds: int = ROUNDS,
        learning_rate: float = 0.03,
    ) -> None:
        self.level = level
        self._learner = learner
        self._rounds = rounds
        self._learning_rate = learning_rate

    def fit(self, rows: RatingRows, ratings: Values, seed: int = 0) -> Self:
        """See RatingRegressor."""
        if len(rows) < FEWEST_ROWS:
            message = f"{len(rows)} rated films are too few; at least {FEWEST_ROWS} are needed"
            raise TrainingDataError(message)
        import sklearn.ensemble  # noqa: F401, PLC0415 (a limit holds for libraries loaded before it)

        with threadpool_limits(1):  # the same sums on every machine, and serving keeps its core
            self._fit(rows, ratings, seed)
        return self

    def _fit(self, rows: RatingRows, ratings: Values, seed: int) -> None:
        known_years = rows.start_year[np.isfinite(rows.start_year)]
        self._now = float(known_years.max()) + 1 if len(known_years) else 2_000.0
        folds = np.random.default_rng(seed).permutation(len(rows)) % FOLDS
        film = film_features(rows, self._now)
        centred = ratings - ratings.mean()
        encoded = [out_of_fold(make, rows, centred, folds) for make in ENCODERS]
        self._encoders = [make().fit(rows, centred) for make in ENCODERS]
        features = without_empty_columns(np.column_stack([film, *encoded]))
        self._boost(features, ratings, folds, seed)
        self._set_range(range_of(film[:, _RANGED]))

    def predict(self, rows: RatingRows) -> RatingPredictions:
        """See RatingRegressor."""
        found = [self._columns(film) for film in films_of(rows)]
        features = np.array(found, np.float64).reshape(-1, len(ALL_COLUMNS))
        leaves = self._tables.values(features)
        mean, size = leaves[:, : self._split].sum(axis=1), leaves[:, self._split :].sum(axis=1)
        rating = np.clip(self._base + mean / COPIES, 1.0, 10.0)
        half = self._quantile * np.maximum(self._error_base + size, SMALLEST_ERROR)
        return RatingPredictions(
            rating,
            np.maximum(rating - half, 1.0),
            np.minimum(rating + half, 10.0),
            inside(features[:, _RANGED], self._range),
        )

    def predict_film(self, film: Film) -> tuple[float, float, float, bool]:
        """Rating, low, high and whether the film is in range, as `predict` has them.

        In plain numbers: array operations on one row are all overhead.
        """
        row = self._columns(film)
        leaves = self._tables.row(row)
        mean = float(np.add.reduce(leaves[: self._split]))
        size = float(np.add.reduce(leaves[self._split :]))
        rating = min(max(self._base + mean / COPIES, 1.0), 10.0)
        half = self._quantile * max(self._error_base + size, SMALLEST_ERROR)
        within = True
        for column, low, high in self._bounds:
            if row[column] < low or row[column] > high:
                within = False
        return rating, max(rating - half, 1.0), min(rating + half, 10.0), within

    def _columns(self, film: Film) -> list[float]:
        row = film_row(film, self._now)
        for encoder in self._encoders:
            row += encoder.row(film)
        return row

    def artifact(self) -> tuple[Arrays, Card]:
        """See RatingRegressor."""
        card = {
            "algorithm": self.name,
            "parameters": {
                "level": self.level,
                "learner": self._learner,
                "rounds": self._rounds,
                "learning_rate": self._learning_rate,
            },
            "columns": list(ALL_COLUMNS),
            "now": self._now,
            "base": self._base,
            "error_base": self._error_base,
            "quantile": self._quantile,
        }
        arrays = {
            **self._mean.arrays("mean"),
            **self._error.arrays("error"),
            **{name: a for encoder in self._encoders for name, a in encoder.arrays().items()},
            "range": self._range,
        }
        return arrays, card

    @classmethod
    def from_artifact(cls, arrays: Mapping[str, NDArray[Any]], card: Card) -> Self:
        """See RatingRegressor."""
        model = cls(**card["parameters"])
        model._set_trees(
            Trees.from_arrays(arrays, "mean", len(ALL_COLUMNS)),
            Trees.from_arrays(arrays, "error", len(ALL_COLUMNS)),
        )
        model._encoders = [make.from_arrays(arrays) for make in ENCODERS]
        model._set_range(checked_range(arrays, len(_RANGED)))
        model._now, model._base = float(card["now"]), float(card["base"])
        model._error_base, model._quantile = float(card["error_base"]), float(card["quantile"])
        return model

    def _set_trees(self, mean: Trees, error: Trees) -> None:
        self._mean, self._error = mean, error
        self._split = len(mean.roots)
        self._tables = LeafTables(mean, error, together=_TOGETHER)

    def _set_range(self, bounds: Values) -> None:
        self._range = bounds
        self._bounds = list(zip(_RANGED, *bounds.tolist(), strict=True))

    def _boost(
        self, features: Values, ratings: Values, folds: NDArray[np.int64], seed: int
    ) -> None:
        """Fit rating and error models; calibrate on what each fold's models did not see.

        As many trees are kept as were best over the folds.
        """
        self._learner = available_learner(self._learner)
        recipe = Recipe(self._learner, self._learning_rate)
        rounds = min(self._rounds, max(FEWEST_ROUNDS, len(ratings) // 20))
        staged = np.empty((len(ratings), rounds), np.float32)
        for train, held in _in_turn(folds):
            found = boost(recipe, features[train], ratings[train], rounds, seed)
            values = LeafTables(found.trees).values(features[held])
            trees = values.shape[1]  # fewer than asked for when nothing is left to split
            staged[held, :trees] = found.base + np.cumsum(values, axis=1)
            staged[held, trees:] = staged[held, trees - 1][:, None]
        best = int(((staged - ratings[:, None]) ** 2).mean(axis=0).argmin()) + 1
        errors, error_rounds = np.abs(ratings - staged[:, best - 1]), best // 4 + 1
        sizes = np.empty(len(ratings))
        for train, held in _in_turn(folds):
            found = boost(recipe, features[train], errors[train], error_rounds, seed)
            sizes[held] = found.base + LeafTables(found.trees).sums(features[held])
        scores = errors / np.maximum(sizes, SMALLEST_ERROR)
        self._quantile = conformal_quantile(scores, self.level)
        means = [boost(recipe, features, ratings, best, seed + at) for at in range(COPIES)]
        error = boost(recipe, features, errors, error_rounds, seed)
        self._base, self._error_base = means[0].base, error.base
        self._set_trees(Trees.together([found.trees for found in means]), error.trees)


def _in_turn(folds: NDArray[np.int64]) -> Any:
    """Places of the rows to train on and of those held out, fold by fold."""
    return ((np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(FOLDS))
