"""Rating prediction data and figures: rows from the movies table, splits, errors with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from movie_mlops.domain.versions import Interval
from movie_mlops.models.algorithms.base import RatingPredictions, RatingRows

FEWEST_VOTES = 5
HELD_OUT_SHARE = 0.2
SMALLEST_SEGMENT = 30
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
Values = NDArray[np.float64]


def rated_films(movies: pl.DataFrame, fewest_votes: int = FEWEST_VOTES) -> pl.DataFrame:
    """Films of the movies table that have a rating from enough votes."""
    return movies.filter(
        pl.col("vote_average").is_not_null() & (pl.col("vote_count") >= fewest_votes)
    )


def rating_rows(movies: pl.DataFrame) -> tuple[RatingRows, Values]:
    """Rows and ratings of the movies table, in its order."""
    rows = RatingRows(
        title=movies["title_en"].fill_null(movies["title"]).to_list(),
        original_title=movies["original_title"].fill_null("").to_list(),
        start_year=_numbers(movies["year"]),
        runtime_minutes=_numbers(movies["runtime"]),
        num_votes=_numbers(movies["vote_count"]),
        genres=movies["genres"].to_list(),
        adult=movies["adult"].to_numpy(),
        directors=movies["directors"].to_list(),
        cast=movies["cast"].to_list(),
    )
    return rows, _numbers(movies["vote_average"])


def split_rows(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions for training and for testing, 80/20 at random.

    scikit-learn's own split: figures are compared with those of others on the same films.
    """
    from sklearn.model_selection import train_test_split  # noqa: PLC0415 (a second to import)

    train, held = train_test_split(np.arange(count), test_size=HELD_OUT_SHARE, random_state=seed)
    return np.sort(train), np.sort(held)


def hold_out(films: pl.DataFrame, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions for training and for testing, 80/20 by a hash of the film's id.

    A film is on the same side in every later snapshot, so that a model fitted before has not seen
    the films that test it now.
    """
    ids = films["movie_id"].cast(pl.UInt64).to_numpy() + np.uint64(seed)
    mixed = (ids * _GOLDEN) >> np.uint64(32)  # Knuth's multiplicative hash
    held = mixed % np.uint64(1_000) < 1_000 * HELD_OUT_SHARE
    return np.flatnonzero(~held), np.flatnonzero(held)


@dataclass(frozen=True, slots=True)
class RatingReport:
    """Figures of one regressor on held-out films; `squared_errors` are per film."""

    films: int
    metrics: Mapping[str, Interval]
    squared_errors: Values

    def to_json(self) -> dict[str, Any]:
        """Metric name to value with bounds."""
        return {
            name: {"value": found.value, "low": found.low, "high": found.high}
            for name, found in self.metrics.items()
        }


def measure(
    predictions: RatingPredictions, ratings: Values, level: float, seed: int, samples: int = 1_000
) -> RatingReport:
    """RMSE, MAE, R2 and coverage with 95 % bootstrap intervals over films."""
    errors = ratings - predictions.rating
    covered = (ratings >= predictions.low) & (ratings <= predictions.high)
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [_figures(errors[i], ratings[i], covered[i]) for i in _resamples(rng, len(errors), samples)]
    )
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    names = ("rmse", "mae", "r2", f"coverage_{level * 100:.0f}")
    value = _figures(errors, ratings, covered)
    metrics = {
        name: Interval(float(value[at]), float(low[at]), float(high[at]))
        for at, name in enumerate(names)
    }
    return RatingReport(len(ratings), metrics, errors**2)


def by_segment(
    predictions: RatingPredictions, ratings: Values, rows: RatingRows
) -> list[dict[str, Any]]:
    """Errors and coverage per decade and quartile of votes: segment, films, rmse, bias, covered.

    `bias` is the mean of prediction less rating; segments of fewer than 30 films are left out.
    """
    errors = predictions.rating - ratings
    covered = (ratings >= predictions.low) & (ratings <= predictions.high)
    return [
        {
            "segment": name,
            "films": int(members.sum()),
            "rmse": float(np.sqrt((errors[members] ** 2).mean())),
            "bias": float(errors[members].mean()),
            "covered": float(covered[members].mean()),
        }
        for name, members in (_decades(rows) | vote_quartiles(rows)).items()
        if members.sum() >= SMALLEST_SEGMENT
    ]


def vote_quartiles(rows: RatingRows) -> dict[str, NDArray[np.bool_]]:
    """Members of the four quarters by number of votes, the least first."""
    quartile = np.searchsorted(np.quantile(rows.num_votes, (0.25, 0.5, 0.75)), rows.num_votes)
    return {f"vote quartile {number + 1}": quartile == number for number in range(4)}


def _decades(rows: RatingRows) -> dict[str, NDArray[np.bool_]]:
    decade = np.floor(rows.start_year / 10) * 10
    return {f"{int(of)}s": decade == of for of in np.unique(decade[np.isfinite(decade)])}


def _figures(errors: Values, ratings: Values, covered: NDArray[np.bool_]) -> tuple[float, ...]:
    squared = errors**2
    spread = float(((ratings - ratings.mean()) ** 2).sum())
    return (
        float(np.sqrt(squared.mean())),
        float(np.abs(errors).mean()),
        1 - float(squared.sum()) / max(spread, 1e-12),
        float(covered.mean()),
    )


def _resamples(rng: np.random.Generator, count: int, samples: int) -> Any:
    return (rng.integers(0, count, count) for _ in range(samples))


def _numbers(column: pl.Series) -> Values:
    found: Values = column.cast(pl.Float64).fill_null(np.nan).to_numpy().copy()
    return found
