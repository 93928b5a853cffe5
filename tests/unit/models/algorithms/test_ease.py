"""EASE against its definition; both sides of the solve give the same."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from movie_mlops.models.algorithms import ease as module
from movie_mlops.models.algorithms import film_maps
from movie_mlops.models.algorithms.base import TrainingHistories
from movie_mlops.models.algorithms.ease import Ease


def random_histories(people: int, films: int, seed: int = 0) -> TrainingHistories:
    rng = np.random.default_rng(seed)
    lists = [rng.permutation(films)[: rng.integers(2, films)] for _ in range(people)]
    indptr = np.cumsum([0, *map(len, lists)])
    items = np.concatenate(lists).astype(np.int32)
    return TrainingHistories(np.arange(films), tuple(map(str, range(people))), indptr, items)


@pytest.mark.parametrize("people", [9, 60])
def test_map_is_the_closed_form(people: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film_maps, "MIN_COUNT", 0)
    histories = random_histories(people, films=20)
    watched = np.zeros((people, 20))
    for user in range(people):
        watched[user, histories.of(user)] = 1
    inverse = np.linalg.inv(watched.T @ watched + 7 * np.eye(20))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    model = Ease(ridge=7.0).fit(histories)
    np.testing.assert_allclose(model.maps[0], expected, atol=2e-5)


def test_both_sides_solve_the_same_system() -> None:
    rng = np.random.default_rng(0)
    watched = csr_matrix((rng.random((40, 700)) < 0.1).astype(np.float32))
    by_films, by_users = module._by_films(watched, 5.0), module._by_users(watched, 5.0)
    np.testing.assert_allclose(by_films, by_users, atol=1e-6)


def test_without_recency_the_order_does_not_matter() -> None:
    histories = random_histories(80, films=20)
    history = histories.of(3)
    for recency, alike in ((None, True), (20.0, False)):
        model = Ease(recency=recency).fit(histories)
        scores = model.score([history, history[::-1]])
        assert np.allclose(scores[0], scores[1], atol=1e-6) is alike
