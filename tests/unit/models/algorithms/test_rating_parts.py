"""What the rating champion is made of: bit tables, the libraries' trees, encoders."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import fsum, log, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movie_mlops.domain.errors import ArtifactCorruptError, ConfigurationError
from movie_mlops.models.algorithms.base import RatingRows
from movie_mlops.models.algorithms.boosted import ENCODERS
from movie_mlops.models.algorithms.boosters import LEARNERS, Recipe, available_learner, boost
from movie_mlops.models.algorithms.leaf_tables import LeafTables
from movie_mlops.models.algorithms.rating_encoders import (
    GenreSets,
    People,
    out_of_fold,
)
from movie_mlops.models.algorithms.rating_features import films_of
from movie_mlops.models.algorithms.title_grams import TITLE_BUCKETS, TitleScores, title_matrix
from movie_mlops.models.algorithms.title_neighbours import TitleNeighbours
from movie_mlops.models.algorithms.trees import Trees


def data(seed: int = 0, missing: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(900, 6))
    features[:, 3] = rng.integers(0, 2, 900)
    features[rng.random(features.shape) < missing] = np.nan
    known = np.nan_to_num(features)
    return features, known[:, 0] * known[:, 3] + known[:, 1] ** 2 + rng.normal(0, 0.1, 900)


def library_predictions(learner: str, features: np.ndarray, target: np.ndarray) -> np.ndarray:
    """What the library itself says after the same fit."""
    import catboost
    import lightgbm

    kept = {}
    if learner == "lightgbm":
        original = lightgbm.train
        lightgbm.train = lambda *a, **k: kept.setdefault("booster", original(*a, **k))
        try:
            found = boost(Recipe(learner), features, target, 40, seed=1)
        finally:
            lightgbm.train = original
        return found.base + kept["booster"].predict(features)
    assert learner == "catboost"
    original_fit = catboost.CatBoostRegressor.fit
    catboost.CatBoostRegressor.fit = lambda self, *a, **k: kept.setdefault(
        "booster", original_fit(self, *a, **k)
    )
    try:
        boost(Recipe(learner), features, target, 40, seed=1)
    finally:
        catboost.CatBoostRegressor.fit = original_fit
    return np.asarray(kept["booster"].predict(features))


@pytest.mark.parametrize("learner", ["lightgbm", "catboost"])
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_flat_trees_equal_the_library(learner: str, missing: float) -> None:
    features, target = data(missing=missing)
    found = boost(Recipe(learner), features, target, 40, seed=1)
    flat = found.base + found.trees.sums(features)
    assert np.abs(flat - library_predictions(learner, features, target)).max() < 1e-6


@pytest.mark.parametrize("learner", LEARNERS)
def test_bit_tables_equal_the_walk_down_the_trees(learner: str) -> None:
    features, target = data()
    found = boost(Recipe(learner), features, target, 25, seed=2)
    tables = LeafTables(found.trees)
    strange = np.vstack([features, np.full((1, 6), np.nan), np.full((1, 6), 1e300)])
    assert np.array_equal(tables.values(strange), found.trees.values(strange))
    for row in strange[-40:]:
        assert np.array_equal(tables.row(row.tolist()), found.trees.values(row[None])[0])
    assert np.allclose(tables.sums(strange), found.trees.sums(strange))


@given(st.lists(st.floats(-3, 3) | st.just(float("nan")), min_size=6, max_size=6))
def test_bit_tables_on_any_row(row: list[float]) -> None:
    tables, trees = TWO
    assert np.array_equal(tables.row(row), trees.values(np.array([row]))[0])


def _two() -> tuple[LeafTables, Trees]:
    features, target = data(seed=5)
    first, second = (
        boost(Recipe("histogram"), features, target + at, 4, seed=at).trees for at in (0, 1)
    )
    return LeafTables(first, second), Trees.together([first, second])


TWO = _two()


def test_a_learner_that_is_not_there_is_named() -> None:
    assert available_learner(None) == "lightgbm"
    with pytest.raises(ConfigurationError, match="there are: lightgbm"):
        available_learner("xgboost")


def rows_of(titles: list[str], **columns: list[list[str]]) -> RatingRows:
    count = len(titles)
    numbers = np.full(count, 100.0)
    genres = columns.pop("genres", [["Drama"]] * count)
    return RatingRows(
        titles, titles, numbers, numbers, numbers, genres, np.zeros(count, bool), **columns
    )


@pytest.mark.parametrize(
    "together", [[], [()], [(1,)], [(0, 3, 4)], [range(6)], [(0, 1), (9,), (1, 2, 5)]]
)
def test_columns_that_come_together_change_nothing(together: Sequence[Sequence[int]]) -> None:
    features, target = data(seed=7)
    trees = boost(Recipe("histogram"), features, target, 6, seed=7).trees
    tables = LeafTables(trees, together=together)
    for _ in range(2):  # anew, then kept
        for row in features[:60]:
            assert np.array_equal(tables.row(row.tolist()), trees.values(row[None])[0])


TITLES = st.lists(
    st.text(max_size=12)
    | st.text(st.characters(max_codepoint=127), max_size=12)
    | st.sampled_from(["the film", " ", "ab  cd", "\t", "\0", "\x1c", "aaaa", "한국 영화"])
).map("".join)


@given(TITLES)
def test_a_title_scores_as_its_row_of_the_matrix(title: str) -> None:
    row = title_matrix([title])
    assert SCORES(title) == fsum(WEIGHTS[row.indices].tolist()) / sqrt(row.nnz)
    assert SCORES(title) == pytest.approx((row @ WEIGHTS.astype(np.float64))[0], abs=1e-12)


WEIGHTS = np.random.default_rng(0).normal(size=TITLE_BUCKETS).astype(np.float32)
SCORES = TitleScores(WEIGHTS)


def test_a_sequel_finds_its_series_by_title() -> None:
    titles = ["Moon Harvest", "Moon Harvest II", *(f"Other number{at}" for at in range(60))]
    ratings = np.array([2.0, 2.0, *np.zeros(60)])
    encoder = TitleNeighbours().fit(rows_of(titles), ratings)
    [sequel, stranger, nothing] = films_of(rows_of(["Moon Harvest Returns", "Zebra", ""]))
    mean, nearest, likeness = encoder.row(sequel)
    assert mean > 1.5
    assert 0.3 < nearest <= 1
    assert likeness > 0
    assert encoder.row(stranger) == encoder.row(nothing) == (0.0, 0.0, 0.0)
    [whole] = films_of(rows_of(["Moon Harvest"]))
    assert encoder.row(whole)[1] == pytest.approx(1.0, abs=1e-6)


WORDS = st.lists(st.sampled_from(["moon", "harvest", "of", "the", "sun", "달"]), max_size=5)


@given(st.lists(WORDS, min_size=1, max_size=10), WORDS)
def test_neighbours_are_those_of_the_cosine_of_rare_words(
    titles: list[list[str]], asked: list[str]
) -> None:
    """Compared with the same sums over sets of words."""
    ratings = np.arange(len(titles)) - 4.0
    encoder = TitleNeighbours().fit(rows_of([" ".join(words) for words in titles]), ratings)
    [film] = films_of(rows_of([" ".join([*asked, "Zebra"])]))
    [wanted, *known] = [{*words, *pairwise(words)} for words in ([*asked, "zebra"], *titles)]
    counts = Counter(token for tokens in known for token in tokens)

    def length(tokens: set[Any]) -> float:
        return sum(log((len(titles) + 1) / (counts[token] + 1)) ** 2 for token in tokens)

    def likeness(tokens: set[Any]) -> float:
        return length(tokens & wanted) / max(sqrt(length(tokens) * length(wanted)), 1e-9)

    found = [likeness(tokens) for tokens in known]
    total = sum(one**3 for one in found)
    mean = sum(one**3 * rating for one, rating in zip(found, ratings, strict=True))
    expected = (mean / (total + 0.02), max(found), total)
    assert encoder.row(film) == pytest.approx(expected, abs=1e-9)


def test_people_carry_what_their_other_films_got() -> None:
    people = [["Kim"], ["Kim"], ["Kim"], ["Lee"], ["Lee"], []]
    rows = rows_of([f"f{at}" for at in range(6)], directors=people, cast=[["Ann", "Bob"]] * 6)
    encoder = People().fit(rows, np.array([1.0, 1.0, 1.0, -1.0, -1.0, 0.0]))
    [kim, lee, nobody, stranger] = films_of(
        rows_of(["a", "b", "c", "d"], directors=[["KIM"], ["Lee"], [], ["New"]], cast=[[]] * 4)
    )
    assert encoder.row(kim)[:2] == (pytest.approx(3 / 6), 1)
    assert encoder.row(lee)[:2] == (pytest.approx(-2 / 5), 1)
    assert encoder.row(nobody) == encoder.row(stranger) == (0, 0, 0, 0.0, 0)


def test_out_of_fold_never_shows_a_row_its_own_rating() -> None:
    """A genre of one film only says nothing of that film, though a full fit would tell all."""
    genres = [["Horror"], *([["Drama"]] * 40)]
    rows = rows_of([f"f{at}" for at in range(41)], genres=genres)
    ratings = np.zeros(41)
    ratings[0] = 4.0
    folds = np.arange(41) % 5
    found = out_of_fold(GenreSets, rows, ratings, folds)
    assert found[0, 0] == 0.0
    [film] = films_of(rows.take(np.array([0])))
    assert GenreSets().fit(rows, ratings).row(film)[0] > 0.1


@pytest.mark.parametrize("make", ENCODERS)
def test_encoders_survive_their_arrays(make: type) -> None:
    titles = [f"The {word} of {at % 7}" for at, word in enumerate(["red", "blue", "green"] * 12)]
    people = [[f"p{at % 5}"] for at in range(36)]
    rows = rows_of(titles, directors=people, cast=people, genres=[[["Drama"], ["Comedy"]][at % 2]
                   for at in range(36)])  # fmt: skip
    encoder = make().fit(rows, np.random.default_rng(0).normal(size=36))
    arrays = encoder.arrays()
    again = make.from_arrays(arrays)
    for film in films_of(rows):
        assert again.row(film) == encoder.row(film)
        assert len(encoder.row(film)) == len(make.columns)
    for name in arrays:
        with pytest.raises(ArtifactCorruptError):
            make.from_arrays({key: array for key, array in arrays.items() if key != name})
