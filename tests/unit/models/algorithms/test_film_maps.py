"""Dense and pruned maps, and that memory stays bounded when there are many films."""

import numpy as np
import psutil
import pytest

from movie_mlops.domain.errors import ArtifactCorruptError
from movie_mlops.models.algorithms import create, load
from movie_mlops.models.algorithms.base import TrainingHistories
from movie_mlops.models.algorithms.film_map import FilmMap, column_type, pruned, rounded
from movie_mlops.models.training.trainer import fit_measured

MANY = 30_000


@pytest.fixture(scope="module")
def many() -> TrainingHistories:
    """30,000 films, some watched often, most a few times."""
    rng = np.random.default_rng(0)
    films = (MANY * rng.random(160_000) ** 2).astype(np.int32)
    indptr = np.arange(0, len(films) + 1, 80)
    users = tuple(map(str, range(len(indptr) - 1)))
    return TrainingHistories(np.arange(MANY), users, indptr, films)


def test_sums_are_those_of_the_matrix() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((150, 150)).astype(np.float32)
    rows, weights = rng.integers(0, 150, 140), rng.random(140).astype(np.float32)
    dense = FilmMap(matrix)
    np.testing.assert_allclose(
        dense.sums(rows, weights), weights @ matrix[rows], rtol=1e-4, atol=1e-4
    )
    assert dense.sums(rows[:0], weights[:0]).tolist() == [0] * 150
    thin = FilmMap(*pruned(matrix, 20))
    kept = np.zeros_like(matrix)
    np.put_along_axis(kept, thin.columns, thin.values, axis=1)
    assert ((kept == 0) | (kept == matrix)).all()
    assert (np.sort(np.abs(matrix), axis=1)[:, -20:].sum(axis=1)) == pytest.approx(
        np.abs(kept).sum(axis=1), rel=1e-5
    )
    np.testing.assert_allclose(thin.sums(rows, weights), weights @ kept[rows], rtol=1e-4, atol=1e-4)
    columns = np.array([7, 3, 149, 7])
    for film_map, full in ((dense, matrix), (thin, kept)):
        entries = film_map.entries(rows, columns)
        assert np.array_equal(entries, full[rows][:, columns].T)
    np.testing.assert_allclose(thin.row(3), kept[3], rtol=1e-6)


@pytest.mark.parametrize("name", ["sequence_linear", "ease", "linear_softmax", "implicit_als"])
def test_thirty_thousand_films_stay_within_the_budget(name: str, many: TrainingHistories) -> None:
    given: dict[str, float] = {"max_memory_mb": 4.0}
    given |= {"sweeps": 1} if name == "implicit_als" else {"training_memory_mb": 280.0}
    if name == "linear_softmax":
        given |= {"epochs": 1, "dim": 32}
    before = psutil.Process().memory_info().rss / 2**20
    fitted = fit_measured(lambda: create(name, **given).fit(many))
    arrays, card = fitted.model.artifact()
    assert sum(array.nbytes for array in arrays.values()) < 5.5 * 2**20
    assert card["films"] == MANY
    assert fitted.peak_memory_mb - before < 500
    again = load(arrays, card)
    history = many.of(5)
    scores = again.score([history, np.empty(0, np.int64)])
    assert np.isfinite(scores).all()
    total = again.contributions(history, int(history[0])).sum() + again.baseline(80)[history[0]]
    assert total == pytest.approx(scores[0, history[0]], rel=1e-3, abs=1e-4)
    assert np.isfinite(np.delete(again.similar(3), 3)).all()


def test_rounded_maps_are_near_and_still_add_up(many: TrainingHistories) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((150, 150)).astype(np.float32)
    matrix[3] = 0
    values, steps = rounded(matrix)
    coarse, near = FilmMap(values, steps=steps), values * steps[:, None]
    assert np.abs(near - matrix).max() <= np.abs(matrix).max() / 127 / 2 * 1.001
    rows, weights = rng.integers(0, 150, 140), rng.random(140).astype(np.float32)
    np.testing.assert_allclose(coarse.sums(rows, weights), weights @ near[rows], rtol=1e-3)
    columns = np.array([7, 3, 149, 7])
    np.testing.assert_allclose(coarse.entries(rows, columns), near[rows][:, columns].T, rtol=1e-6)
    fitted = [
        create("sequence_linear", max_memory_mb=mb, training_memory_mb=260.0).fit(many)
        for mb in (64.0, 1.5)
    ]
    assert [model.artifact()[1]["rounded"] for model in fitted] == [False, True]
    history = many.of(5)
    scores = load(*fitted[1].artifact()).score([history])[0]
    assert np.corrcoef(scores, fitted[0].score([history])[0])[0, 1] > 0.99
    gave = fitted[1].contributions(history, int(history[0])).sum()
    total = gave + fitted[1].baseline(80)[history[0]]
    assert total == pytest.approx(scores[history[0]], rel=1e-3, abs=1e-4)


def test_pruned_maps_model_more_films_than_dense_ones(many: TrainingHistories) -> None:
    model = create("sequence_linear", max_memory_mb=1.0, training_memory_mb=280.0).fit(many)
    arrays, card = model.artifact()
    assert card["pruned"]
    assert card["modelled_films"] > (2**20 / 8) ** 0.5
    assert arrays["maps"].nbytes + arrays["columns"].nbytes <= 0.75 * 2**20  # 6 bytes for 8
    # what older releases wrote: columns of 4 bytes
    assert arrays["columns"].dtype == np.uint16
    older = load({**arrays, "columns": arrays["columns"].astype(np.int32)}, card)
    history, items = many.of(5), many.of(6)[:10]
    assert np.array_equal(older.score([history]), model.score([history]))
    assert np.array_equal(
        older.contributions_of(history, items), model.contributions_of(history, items)
    )
    outside = arrays["columns"].copy()
    outside[0, 0, -1] = card["modelled_films"]
    with pytest.raises(ArtifactCorruptError, match="columns"):
        load({**arrays, "columns": outside}, card)


def test_columns_take_two_bytes_while_every_film_fits() -> None:
    assert column_type(65_536) is np.uint16
    assert column_type(65_537) is np.int32
