import numpy as np
import pytest

from movie_mlops.data.processors.watch_log import TMDBPreProcessor
from movie_mlops.domain.errors import TrainingDataError
from movie_mlops.models.algorithms.numpy_mlp import (
    FEATURES,
    MoviePredictor,
    SimpleDataLoader,
    init_seed,
    split_watch_log,
    train,
)


def watch_log():  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    movies = [
        {"id": number, "vote_average": rating, "popularity": popularity}
        for number, (rating, popularity) in enumerate(
            zip(rng.uniform(3, 9, 60), rng.uniform(1, 500, 60), strict=True), 1
        )
    ]
    frame = TMDBPreProcessor(movies, user_count=200, max_select_count=20).run()
    return frame.select(FEATURES).to_numpy().astype(float), frame["content_id"].to_numpy()


def test_the_loss_falls_and_held_out_films_are_found_better_than_by_chance() -> None:
    init_seed()
    training, _, held = split_watch_log(*watch_log())
    model = MoviePredictor(training.features_dim, training.num_classes, hidden_dim=64)
    loader = SimpleDataLoader(training.features, training.labels, batch_size=32)
    losses = [train(model, loader) for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]
    assert losses[0] > losses[5] > losses[-1]
    right = (model.forward(held.features).argmax(axis=1) == held.labels).mean()
    majority = np.bincount(training.labels).argmax()
    assert right > 3 * (held.labels == majority).mean()


def test_gradients_equal_finite_differences() -> None:
    rng = np.random.default_rng(1)
    model = MoviePredictor(4, 5, hidden_dim=6)
    model.parameters = {
        key: weights.astype(np.float64) for key, weights in model.parameters.items()
    }  # type: ignore[misc]
    features, labels = rng.normal(size=(7, 4)), rng.integers(0, 5, 7)
    _, gradients = model.gradients(features, labels)
    for key, weights in model.parameters.items():
        place = tuple(0 for _ in weights.shape)
        saved, step = weights[place], 1e-6
        losses = []
        for sign in (1, -1):
            weights[place] = saved + sign * step
            losses.append(model.gradients(features, labels)[0])
        weights[place] = saved
        assert gradients[key][place] == pytest.approx(
            (losses[0] - losses[1]) / (2 * step), abs=1e-5
        )


def test_the_loader_gives_every_row_once_a_pass() -> None:
    loader = SimpleDataLoader(np.arange(70).reshape(-1, 1), np.arange(70), batch_size=32)
    assert len(loader) == 3
    assert sorted(int(label) for _, labels in loader for label in labels) == list(range(70))


def test_sets_are_disjoint_and_a_short_log_is_refused() -> None:
    features, films = watch_log()
    sets = split_watch_log(features, films)
    assert [len(each.labels) for each in sets] == [
        int(0.6 * len(films)), int(0.8 * len(films)) - int(0.6 * len(films)),
        len(films) - int(0.8 * len(films)),
    ]  # fmt: skip
    assert abs(sets[0].features.mean()) < 1e-5
    with pytest.raises(TrainingDataError):
        split_watch_log(features[:5], films[:5])
