"""Item neighbours against the formula, pair by pair."""

import numpy as np
import pytest

from movie_mlops.models.algorithms import item_neighbours as module
from movie_mlops.models.algorithms.base import TrainingHistories
from movie_mlops.models.algorithms.item_neighbours import ItemNeighbours

FILMS = 11


@pytest.fixture
def histories() -> TrainingHistories:
    rng = np.random.default_rng(8)
    lists = [rng.permutation(FILMS)[: rng.integers(1, FILMS)] for _ in range(30)]
    indptr = np.cumsum([0, *map(len, lists)])
    items = np.concatenate(lists).astype(np.int32)
    return TrainingHistories(np.arange(FILMS), tuple(map(str, range(30))), indptr, items)


@pytest.mark.parametrize("columns", [4, 512])
def test_likeness_is_shrunk_cosine(
    histories: TrainingHistories, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_COLUMNS_AT_ONCE", columns)
    model = ItemNeighbours(neighbours=FILMS, shrink=10.0).fit(histories)
    seen = [set(histories.of(user).tolist()) for user in range(histories.user_count)]
    for i in range(FILMS):
        for j in range(FILMS):
            both = sum(i in films and j in films for films in seen)
            each = [sum(film in films for films in seen) for film in (i, j)]
            expected = 0 if i == j else both / (np.sqrt(each[0] * each[1]) + 10.0)
            assert model.contributions(np.array([i]), j)[0] == pytest.approx(expected, rel=1e-5)


def test_only_the_nearest_count(histories: TrainingHistories) -> None:
    everything = ItemNeighbours(neighbours=FILMS).fit(histories)
    few = ItemNeighbours(neighbours=3).fit(histories)
    for j in range(FILMS):
        full = [float(everything.contributions(np.array([i]), j)[0]) for i in range(FILMS)]
        kept = [float(few.contributions(np.array([i]), j)[0]) for i in range(FILMS)]
        assert sorted(kept)[-3:] == sorted(full)[-3:]
        assert sum(value > 0 for value in kept) == 3
