"""The contract of rating regressors: one suite, every algorithm."""

from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest

from movie_mlops.domain.errors import ArtifactCorruptError, TrainingDataError
from movie_mlops.models.algorithms import REGRESSORS, create, load
from movie_mlops.models.algorithms.base import RatingRows
from movie_mlops.models.algorithms.boosted import Boosted
from movie_mlops.models.algorithms.rating_features import films_of
from movie_mlops.models.bundle import load_bundle, save_bundle

GENRES = ("Drama", "Comedy", "Horror", "Action")


def films(count: int, seed: int = 0) -> tuple[RatingRows, np.ndarray]:
    """Films whose rating hangs on genre, votes and runtime, with noise."""
    rng = np.random.default_rng(seed)
    year = rng.integers(1960, 2025, count).astype(float)
    runtime = rng.normal(105, 20, count).clip(60, 240)
    votes = np.exp(rng.normal(7, 1.5, count)).round() + 5
    genre = rng.integers(0, len(GENRES), count)
    ratings = 5.5 + 0.4 * np.log10(votes) + 0.01 * (runtime - 105) - 0.6 * (genre == 2)
    ratings = (ratings + rng.normal(0, 0.5, count)).clip(1, 10)
    runtime[rng.random(count) < 0.05] = np.nan
    titles = [f"Film {number} of {GENRES[at]}" for number, at in enumerate(genre)]
    rows = RatingRows(
        titles, titles, year, runtime, votes, [[GENRES[at]] for at in genre], np.zeros(count, bool)
    )
    return rows, ratings


@pytest.fixture(params=REGRESSORS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def small(name: str):  # type: ignore[no-untyped-def]
    return create(name, **({"trees": 60} if name == "random_forest" else {"rounds": 60}))


def test_it_learns_and_its_interval_covers(name: str) -> None:
    rows, ratings = films(1_500)
    held, truth = films(1_500, seed=1)
    found = small(name).fit(rows, ratings).predict(held)
    error = np.sqrt(((truth - found.rating) ** 2).mean())
    assert error < 0.97 * truth.std()
    covered = ((truth >= found.low) & (truth <= found.high)).mean()
    assert 0.86 <= covered <= 0.95
    assert ((found.low <= found.rating) & (found.rating <= found.high)).all()


def test_saved_and_loaded_it_predicts_the_same_without_scikit_learn(
    name: str, tmp_path: Path
) -> None:
    rows, ratings = films(400)
    model = small(name).fit(rows, ratings)
    sha = save_bundle(tmp_path / "b", *model.artifact())
    again = load(*load_bundle(tmp_path / "b", sha))
    before, after = model.predict(rows), again.predict(rows)
    for column in ("rating", "low", "high", "in_range"):
        assert np.array_equal(getattr(before, column), getattr(after, column))


def test_a_film_alone_is_rated_as_among_others() -> None:
    rows, ratings = films(400)
    model = Boosted(rounds=60).fit(rows, ratings)
    strange = replace(rows, start_year=np.where(np.arange(400) % 3, rows.start_year, np.nan),
                      num_votes=np.where(np.arange(400) % 5, rows.num_votes, 1e9))  # fmt: skip
    found = model.predict(strange)
    together = zip(*(column.tolist() for column in astuple(found)), strict=True)
    assert [model.predict_film(film) for film in films_of(strange)] == list(together)
    assert 0 < found.in_range.sum() < 400


def test_same_seed_same_bytes(name: str, tmp_path: Path) -> None:
    rows, ratings = films(300)
    shas = {
        save_bundle(tmp_path / str(turn), *small(name).fit(rows, ratings, seed=3).artifact())
        for turn in range(2)
    }
    assert len(shas) == 1


def test_unknown_genres_and_missing_numbers_are_answered(name: str) -> None:
    rows, ratings = films(300)
    model = small(name).fit(rows, ratings)
    nan = np.array([np.nan])
    strange = RatingRows(
        [
            "",
        ],
        [""],
        nan,
        nan,
        nan,
        [["Underwater Opera"]],
        np.array([True]),
    )
    found = model.predict(strange)
    assert np.isfinite([found.rating[0], found.low[0], found.high[0]]).all()
    far = RatingRows(["x"], ["x"], np.array([1700.0]), np.array([90.0]), np.array([100.0]), [[]],
                     np.array([False]))  # fmt: skip
    assert not model.predict(far).in_range[0]


def test_a_column_that_the_source_leaves_empty_is_no_obstacle(name: str) -> None:
    rows, ratings = films(300)
    empty = replace(rows, runtime_minutes=np.full(len(rows), np.nan))
    model = small(name).fit(empty, ratings)
    found = model.predict(rows)
    assert np.isfinite(found.rating).all()
    assert found.in_range.all()


@pytest.mark.parametrize("count", [0, 1, 49])
def test_fault_45_too_few_films_is_an_error(name: str, count: int) -> None:
    rows, ratings = films(max(count, 1))
    if count == 0:
        empty = np.empty(0)
        rows = RatingRows([], [], empty, empty, empty, [], np.empty(0, bool))
        ratings = empty
    with pytest.raises(TrainingDataError):
        small(name).fit(rows, ratings)


def test_fault_37_arrays_that_do_not_fit_are_refused(name: str) -> None:
    rows, ratings = films(200)
    arrays, card = small(name).fit(rows, ratings).artifact()
    tree = next(key for key in arrays if key.endswith("_left") and "missing" not in key)
    for broken in (
        {key: array for key, array in arrays.items() if key != tree},
        {**arrays, tree: arrays[tree] + 1_000_000},
        {**arrays, "range": arrays["range"][:, :1]},
        {**arrays, "range": arrays["range"] * np.nan},
    ):
        with pytest.raises(ArtifactCorruptError):
            load(broken, card)


def test_the_flat_trees_equal_the_library_that_fitted_them() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor

    from movie_mlops.models.algorithms.trees import trees_of_boosting, trees_of_forest

    rng = np.random.default_rng(0)
    features = rng.normal(size=(600, 5)).astype(np.float32)
    features[rng.random(features.shape) < 0.1] = np.nan
    target = np.nan_to_num(features[:, 0]) + rng.normal(0, 0.1, 600)
    forest = RandomForestRegressor(10, random_state=0).fit(features, target)
    flat = trees_of_forest(forest)
    assert np.abs(flat.sums(features.astype(float)) / 10 - forest.predict(features)).max() < 1e-6
    boosting = HistGradientBoostingRegressor(max_iter=30, random_state=0).fit(features, target)
    flat, base = trees_of_boosting(boosting)
    assert (
        np.abs(base + flat.sums(features.astype(float)) - boosting.predict(features)).max() < 1e-6
    )
