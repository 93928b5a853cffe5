"""iALS against its definition; a folded-in history equals a trained user."""

import numpy as np
import pytest

from movie_mlops.models.algorithms.base import Iterative, TrainingHistories
from movie_mlops.models.algorithms.implicit_als import ImplicitAls


@pytest.fixture(scope="module")
def histories() -> TrainingHistories:
    """Two groups of people who watch two groups of films."""
    rng = np.random.default_rng(0)
    lists = [rng.permutation(20)[:9] + 20 * (user % 2) for user in range(120)]
    indptr = np.cumsum([0, *map(len, lists)])
    items = np.concatenate(lists).astype(np.int32)
    return TrainingHistories(np.arange(40), tuple(map(str, range(120))), indptr, items)


def test_taste_is_the_ridge_solution(histories: TrainingHistories) -> None:
    model = ImplicitAls(dim=6).fit(histories)
    history = histories.of(4)
    factors = model.factors.astype(np.float64)
    observed = factors[history]
    ridge = 0.007 * (len(history) + 0.3 * 40)
    system = 0.3 * factors.T @ factors + observed.T @ observed + ridge * np.eye(6)
    expected = factors @ np.linalg.solve(system, observed.sum(axis=0))
    found = model.score([history])[0] - model.baseline(len(history))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_each_sweep_lowers_the_objective(histories: TrainingHistories) -> None:
    losses = []
    for sweeps in (1, 3, 12):
        model = ImplicitAls(dim=6, sweeps=sweeps).fit(histories)
        loss = 0.0
        for user in range(histories.user_count):
            history = histories.of(user)
            scores = model.score([history])[0] - model.baseline(len(history))
            loss += ((scores[history] - 1) ** 2).sum() + 0.3 * (scores**2).sum()
        losses.append(loss)
    assert losses[0] > losses[1] > losses[2]


def test_finds_the_group_and_ignores_order(histories: TrainingHistories) -> None:
    told = []
    model = ImplicitAls(dim=6)
    assert isinstance(model, Iterative)
    model.progress = lambda *what: told.append(what[1:])
    model.fit(histories)
    history = histories.of(0)[:6]
    scores = model.score([history, history[::-1]])
    assert scores[0][:20].min() > scores[0][20:].max()
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)
    assert told == [(sweep, 12) for sweep in range(1, 13)]


def test_few_interactions_and_little_memory_get_few_factors(histories: TrainingHistories) -> None:
    assert ImplicitAls().fit(histories).factors.shape == (40, 64)
    assert ImplicitAls(max_memory_mb=4 * 40 * 5 / 2**20).fit(histories).factors.shape == (40, 5)
