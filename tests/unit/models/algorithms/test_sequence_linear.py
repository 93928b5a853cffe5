"""The ridge against the formulas of its definition, written out slowly."""

import time

import numpy as np
import pytest

from movie_mlops.models.algorithms import film_maps
from movie_mlops.models.algorithms import sequence_linear as module
from movie_mlops.models.algorithms.base import TrainingHistories
from movie_mlops.models.algorithms.sequence_linear import SequenceLinear

TAUS, RIDGE, REVERSED, POWER = (4.0, 25.0), (5.0, 20.0), 0.3, -0.1


def make_histories(lists: list[list[int]], films: int) -> TrainingHistories:
    lengths = np.array([0, *map(len, lists)], np.int64)
    items = np.array([film for films_of in lists for film in films_of], np.int32)
    users = tuple(map(str, range(len(lists))))
    return TrainingHistories(np.arange(films), users, np.cumsum(lengths), items)


def random_lists(seed: int, people: int, films: int, longest: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.permutation(films)[: rng.integers(1, longest)].tolist() for _ in range(people)]


def slow_maps(histories: TrainingHistories, films: int) -> np.ndarray:
    """Every row of the regression, one by one, forward and reversed."""
    rows, targets, weights = [], [], []
    for user in range(histories.user_count):
        forward = histories.of(user).tolist()
        for films_of, weight in ((forward, 1.0), (forward[::-1], REVERSED)):
            for place in range(1, len(films_of)):
                row = np.zeros((2, films))
                for scale, tau in enumerate(TAUS):
                    for ago, film in enumerate(films_of[place - 1 :: -1]):
                        row[scale, film] += np.exp(-ago / tau)
                rows.append(row.reshape(-1))
                targets.append(np.eye(films)[films_of[place]])
                weights.append(weight)
    x, y, w = np.array(rows), np.array(targets), np.array(weights)[:, None]
    ridge = np.diag(np.repeat(RIDGE, films))
    solved = np.linalg.solve(x.T @ (w * x) + ridge, x.T @ (w * y))
    return (solved * (histories.counts() + 20.0) ** POWER).reshape(2, films, films)


@pytest.fixture
def all_films(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film_maps, "MIN_COUNT", 0)


@pytest.mark.usefixtures("all_films")
@pytest.mark.parametrize("at_once", [7, 65_536])
def test_maps_are_the_solution_of_the_regression(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PLACES_AT_ONCE", at_once)
    histories = make_histories(random_lists(1, people=40, films=13, longest=13), films=13)
    model = SequenceLinear(ridge=RIDGE).fit(histories)
    np.testing.assert_allclose(model.maps, slow_maps(histories, 13), atol=2e-6, rtol=1e-3)


@pytest.mark.usefixtures("all_films")
def test_a_film_watched_twice_counts_twice() -> None:
    rng = np.random.default_rng(2)
    histories = make_histories([rng.integers(0, 6, 12).tolist() for _ in range(25)], films=6)
    model = SequenceLinear(ridge=RIDGE).fit(histories)
    np.testing.assert_allclose(model.maps, slow_maps(histories, 6), atol=2e-6, rtol=1e-3)


@pytest.mark.usefixtures("all_films")
def test_score_is_the_decayed_sum_of_rows_and_the_prior() -> None:
    histories = make_histories(random_lists(3, people=30, films=12, longest=12), films=12)
    model = SequenceLinear(ridge=RIDGE).fit(histories)
    history = np.array([3, 9, 1])
    expected = model.prior * model.prior_weights[3]
    for scale, tau in enumerate(TAUS):
        for age, film in enumerate(history[::-1]):
            expected = expected + np.exp(-age / tau) * model.maps[scale][film]
    np.testing.assert_allclose(model.score([history])[0], expected, rtol=1e-5)


@pytest.mark.usefixtures("all_films")
def test_recent_films_weigh_more() -> None:
    histories = make_histories(random_lists(4, people=50, films=20, longest=20), films=20)
    model = SequenceLinear().fit(histories)
    first, last = model.contributions(np.array([5, 6]), 7), model.contributions(np.array([6, 5]), 7)
    assert first[0] == pytest.approx(
        np.exp(-1 / 4) * model.maps[0][5, 7] + np.exp(-1 / 25) * model.maps[1][5, 7], rel=1e-4
    )
    assert last[1] == pytest.approx(model.maps[:, 5, 7].sum(), rel=1e-4)


def test_long_histories_are_cut_where_weights_vanish() -> None:
    decays = film_maps.decays((4.0, 25.0))
    assert [len(decay) for decay in decays] == [28, 173]
    assert all(decay[-1] >= film_maps.SMALLEST_DECAY for decay in decays)


def test_prior_fades_with_the_history() -> None:
    histories = make_histories(random_lists(6, people=80, films=40, longest=40), films=40)
    weights = SequenceLinear().fit(histories).prior_weights
    assert (np.diff(weights) <= 0).all()
    assert weights[0] > 4 * weights[40] > 0


def test_memory_budget_keeps_the_most_watched_and_says_so() -> None:
    lists = [[*range(film + 1)] for film in range(30)] * 3  # film 0 is watched most
    histories = make_histories(lists, films=30)
    budget = 2 * 4 * 10 * 10 / 2**20
    model = SequenceLinear(max_memory_mb=budget).fit(histories)
    arrays, card = model.artifact()
    assert arrays["modelled"].tolist() == list(range(10))
    assert arrays["maps"].nbytes <= budget * 2**20
    assert card["modelled_films"] == 10
    assert card["films"] == 30
    scores = model.score([np.array([29, 3])])[0]
    assert np.isfinite(scores).all()
    assert (np.diff(scores[10:]) <= 0).all()  # the rest in the order of popularity
    assert model.contributions(np.array([29, 3]), 20).tolist() == [0, 0]


def test_one_history_is_scored_within_a_millisecond() -> None:
    films = 4_000
    model = SequenceLinear()
    rng = np.random.default_rng(0)
    maps = rng.random((2, films, films), np.float32)
    prior = np.full(films, 1e-3, np.float32)
    model._set(
        np.arange(films), np.arange(films, dtype=np.int32), prior, np.ones(9, np.float32), maps
    )
    history = rng.permutation(films)[:60]
    fastest = min(_seconds(model, history) for _ in range(30))
    assert fastest < 0.002  # measured: 0.3 ms; the machine may be shared


def _seconds(model: SequenceLinear, history: np.ndarray) -> float:
    started = time.perf_counter()
    model.score([history])
    return time.perf_counter() - started
