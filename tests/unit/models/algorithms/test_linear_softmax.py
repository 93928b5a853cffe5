"""Hand-written gradients against finite differences, the optimiser against its formula."""

import numpy as np
import pytest

from movie_mlops.models.algorithms import create
from movie_mlops.models.algorithms.base import Iterative, TrainingHistories
from movie_mlops.models.algorithms.lag_softmax import AdamW, Dropout, LagSoftmax
from movie_mlops.models.algorithms.linear_softmax import LinearSoftmax, Schedule
from movie_mlops.models.training.evaluation import newcomer_curve
from movie_mlops.models.training.splitters import leave_last_out

FILMS = 30


def walks(people: int, films: int, longest: int, seed: int = 0) -> TrainingHistories:
    """People who mostly go to the next film of a ring, at times to a popular one."""
    rng = np.random.default_rng(seed)
    popular = 1 / (np.arange(films) + 3.0)
    lists = []
    for _ in range(people):
        made = [int(rng.integers(films))]
        for _ in range(int(rng.integers(3, longest))):
            jump = int(rng.choice(films, p=popular / popular.sum()))
            made.append(jump if rng.random() < 0.3 else (made[-1] + 1) % films)
        lists.append(list(dict.fromkeys(made)))
    indptr = np.cumsum([0, *map(len, lists)])
    items = np.array([film for films_of in lists for film in films_of], np.int32)
    return TrainingHistories(np.arange(films), tuple(map(str, range(people))), indptr, items)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    network = LagSoftmax(FILMS, 5, 3, 7, rng)
    network.flat = network.flat + rng.normal(0, 0.1, network.flat.shape)  # float64
    inputs, targets = rng.integers(0, FILMS, (2, 6, 7))
    mask = np.arange(7) < np.array([7, 7, 5, 3, 6, 1])[:, None]
    negatives = rng.choice(FILMS, 12, replace=False)
    keep = (rng.random((42, 15)) > 0.2) / 0.8, (rng.random((int(mask.sum()), 5)) > 0.1) / 0.9
    return network, ((inputs, targets, mask), negatives, 1.2, keep)


@pytest.mark.parametrize("name", ["tables", "out", "bias", "lags", "gain"])
def test_gradients_are_those_of_finite_differences(problem, name: str) -> None:
    network, arguments = problem
    _, slope = network.gradients(*arguments)
    part = network.view(name, np.arange(len(network.flat))).reshape(-1)
    for place in np.random.default_rng(1).choice(part, min(12, len(part)), replace=False):
        kept, losses = network.flat[place], []
        for step in (1e-6, -1e-6):
            network.flat[place] = kept + step
            losses.append(network.gradients(*arguments)[0])
        network.flat[place] = kept
        expected = (losses[0] - losses[1]) / 2e-6
        assert slope[place] == pytest.approx(expected, rel=1e-4, abs=1e-8)


def test_loss_is_the_cross_entropy_written_out(problem) -> None:
    network, ((inputs, targets, mask), negatives, correction, _) = problem
    tables, out, bias = (network.view(name) for name in ("tables", "out", "bias"))
    lags, scale = network.view("lags"), 20 * np.exp(network.view("gain")[0])
    losses = []
    for piece, place in np.argwhere(mask):
        state = sum(
            np.exp(lags[head, lag]) * tables[inputs[piece, place - lag], head]
            for head in range(3)
            for lag in range(place + 1)
        )
        logits = scale * out @ state + bias
        target = targets[piece, place]
        others = logits[negatives[negatives != target]] + correction
        losses.append(np.log(np.exp([logits[target], *others]).sum()) - logits[target])
    loss, _ = network.gradients((inputs, targets, mask), negatives, correction)
    assert loss == pytest.approx(np.mean(losses), rel=1e-9)


def test_adam_takes_the_steps_of_its_formula() -> None:
    rng = np.random.default_rng(2)
    flat = rng.standard_normal(70_000)
    expected, mean, square = flat.copy(), 0.0, 0.0
    optimiser = AdamW(flat)
    for step in range(1, 6):
        slope = rng.standard_normal(len(flat))
        mean, square = 0.9 * mean + 0.1 * slope, 0.98 * square + 0.02 * slope**2
        divisor = np.sqrt(square / (1 - 0.98**step)) + 1e-8
        expected -= 0.006 * mean / (1 - 0.9**step) / divisor
        optimiser.step(slope.copy(), 0.006)
    np.testing.assert_allclose(flat, expected, rtol=1e-9)


def test_dropout_keeps_the_mean() -> None:
    factors = Dropout(0.2, 300 * 384, np.random.default_rng(0)).factors(300, 384)
    assert set(np.unique(factors)) == {0, np.float32(1.25)}
    assert factors.mean() == pytest.approx(1, abs=0.01)


def test_much_data_is_trained_by_the_recipe() -> None:
    assert Schedule.of(988_129) == Schedule(2_560, 4, 400, 0.2, 0.1)
    few = Schedule.of(100_000)
    assert (few.epochs, few.drop_rows, few.drop_states) == (20, 0.5, pytest.approx(0.3))


def test_tells_how_far_it_is() -> None:
    told = []
    model = LinearSoftmax(dim=8, epochs=3)
    assert isinstance(model, Iterative)
    model.progress = lambda *what: told.append(what)
    model.fit(walks(60, FILMS, 15))
    assert [(done, of) for _, done, of in told] == [(1, 3), (2, 3), (3, 3)]
    losses = [float(text.rsplit(" ", 1)[1]) for text, _, _ in told]
    assert losses[2] < losses[0]


def test_memory_budget_keeps_the_most_watched_and_says_so() -> None:
    histories = walks(80, FILMS, 20)
    film = 4 * 4 * 8 / 2**20
    model = LinearSoftmax(dim=8, epochs=2, max_memory_mb=10.5 * film).fit(histories)
    arrays, card = model.artifact()
    assert (card["films"], card["modelled_films"]) == (FILMS, 10)
    counts = histories.counts()
    assert counts[arrays["modelled"]].min() >= np.sort(counts)[-10]
    others = np.setdiff1d(np.arange(FILMS), arrays["modelled"])
    scores = model.score([histories.of(0), others])
    assert np.isfinite(scores).all()
    assert scores[:, others].max() < scores[:, arrays["modelled"]].min()


@pytest.mark.parametrize("name", ["linear_softmax", "blend"])
def test_newcomers_get_no_worse_than_popularity(name: str) -> None:
    split = leave_last_out(walks(400, 60, 40, seed=3))
    model, popularity = (create(each).fit(split.train) for each in (name, "popularity"))
    curve = newcomer_curve(model, popularity, split)
    assert set(curve) >= set(range(1, 16))
    assert all(figure.high >= 0 for figure in curve.values())
    assert np.mean([figure.value for figure in curve.values()]) >= 0
