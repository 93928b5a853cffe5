"""What every recommender keeps, whichever it is; a new one is one name more in the table."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from movie_mlops.domain.errors import (
    ArtifactCorruptError,
    ConfigurationError,
    ModelError,
    TrainingDataError,
)
from movie_mlops.models.algorithms import RECOMMENDERS, create, load
from movie_mlops.models.algorithms.base import (
    Recommender,
    TrainingHistories,
    baseline_of,
    contributions_of,
)
from movie_mlops.models.bundle import load_bundle, save_bundle
from movie_mlops.models.training.evaluation import evaluate
from movie_mlops.models.training.splitters import leave_last_out

FILMS, PEOPLE = 60, 150
LINEAR = (
    "item_neighbours", "sequence_linear", "ease", "implicit_als", "linear_softmax", "blend",
)  # fmt: skip
# NDCG@10 over popularity's, on histories where the next film mostly follows from the last ones
BOUNDS = {
    "popularity": 1.0, "item_neighbours": 1.1, "ease": 1.1, "implicit_als": 1.05, "numpy_mlp": 1.5,
    "neural_cf": 1.1, "sasrec": 2.0, "neural_blend": 2.2, "neural_ensemble": 2.2,
    "sequence_linear": 2.2, "linear_softmax": 2.0, "blend": 2.2,
}  # fmt: skip
# Trained in PyTorch: small here, as the suite fits each a dozen times
NETWORKS: dict[str, dict[str, object]] = {
    "neural_cf": {"embedding_dim": 16, "epochs": 15, "rate": 0.01, "batch_size": 1024},
    "sasrec": {"dim": 32, "epochs": 12, "length": 16, "tokens": 512},
}
_LINEAR_PART = ("sequence_linear", {}, 10.0)
NETWORKS["neural_blend"] = {"members": [("sasrec", NETWORKS["sasrec"], 1.0), _LINEAR_PART]}
NETWORKS["neural_ensemble"] = {
    "members": [
        ("sasrec", NETWORKS["sasrec"], 0.25),
        ("sasrec", NETWORKS["sasrec"] | {"jitter": 0.4, "epochs": 6}, 0.25),
        ("sasrec", NETWORKS["sasrec"] | {"wide": True, "epochs": 6}, 0.5),
        _LINEAR_PART,
    ]
}


def new(name: str) -> Recommender:
    model: Recommender = create(name, **NETWORKS.get(name, {}))
    return model


def make_histories(lists: list[list[int]], films: int = FILMS) -> TrainingHistories:
    lengths = np.array([0, *map(len, lists)], np.int64)
    return TrainingHistories(
        movie_ids=np.arange(films, dtype=np.int64) * 10 + 7,
        user_ids=tuple(str(user) for user in range(len(lists))),
        indptr=np.cumsum(lengths),
        items=np.array([film for films_of in lists for film in films_of], np.int32),
    )


@pytest.fixture(scope="module")
def histories() -> TrainingHistories:
    """People who walk along a ring of films, now and then jumping to a popular one."""
    rng = np.random.default_rng(5)
    popular = 1 / (np.arange(FILMS) + 5.0)
    popular = rng.permutation(popular / popular.sum())
    lists = []
    for _ in range(PEOPLE):
        films = [int(rng.integers(FILMS))]
        for _ in range(int(rng.integers(4, 25))):
            step = int(rng.choice(FILMS, p=popular))
            films.append(step if rng.random() < 0.25 else (films[-1] + int(rng.integers(1, 4))))
            films[-1] %= FILMS
        lists.append(list(dict.fromkeys(films)))
    return make_histories(lists)


@pytest.fixture(scope="module", params=RECOMMENDERS)
def name(request: pytest.FixtureRequest) -> str:
    if request.param in NETWORKS:
        pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")
    return str(request.param)


@pytest.fixture(scope="module")
def fitted(name: str, histories: TrainingHistories) -> Recommender:
    model: Recommender = new(name).fit(histories, seed=3)
    return model


def test_fulfils_the_protocol(fitted: Recommender, name: str) -> None:
    assert isinstance(fitted, Recommender)
    assert fitted.name == name


def test_fit_returns_itself_and_leaves_the_data_alone(
    name: str, histories: TrainingHistories
) -> None:
    before = histories.items.copy(), histories.indptr.copy()
    model = new(name)
    assert model.fit(histories) is model
    assert np.array_equal(before[0], histories.items)
    assert np.array_equal(before[1], histories.indptr)


def test_scores_every_film_with_a_finite_number(
    fitted: Recommender, histories: TrainingHistories
) -> None:
    asked = [histories.of(0), np.empty(0, np.int64), np.array([3])]
    scores = fitted.score(asked)
    assert scores.shape == (3, FILMS)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_one_history_scores_like_many(fitted: Recommender, histories: TrainingHistories) -> None:
    asked = [histories.of(user) for user in range(40)]
    together = fitted.score(asked)
    for user in (0, 17, 39):
        alone = fitted.score([asked[user]])[0]
        np.testing.assert_allclose(alone, together[user], rtol=1e-4, atol=1e-6)


def test_what_is_said_may_be_written_over(
    fitted: Recommender, histories: TrainingHistories
) -> None:
    for asked in ([histories.of(0)], [histories.of(0), np.empty(0, np.int64)]):
        for say in (fitted.score, lambda of: contributions_of(fitted, of[0], np.array([1, 2]))):
            first = say(asked)
            expected = first.copy()
            first[...] = 7
            np.testing.assert_array_equal(say(asked), expected)


def test_no_history_gives_the_popularity_order(
    fitted: Recommender, histories: TrainingHistories
) -> None:
    scores = fitted.score([np.empty(0, np.int64)])[0]
    counts = histories.counts()
    assert (np.diff(counts[np.argsort(-scores, kind="stable")]) <= 0).all()


def test_films_nobody_watched_are_scored_too(name: str) -> None:
    lists = [[0, 1, 2, 3], [1, 2, 3], [0, 2, 3, 1], [3, 1, 2]]
    model = new(name).fit(make_histories(lists, films=9))
    scores = model.score([np.array([0, 8])])[0]
    assert np.isfinite(scores).all()
    assert scores[8] <= scores[:4].min()
    assert np.isfinite(model.contributions(np.array([0, 8]), 8)).all()


def test_survives_a_bundle(fitted: Recommender, histories: TrainingHistories, tmp_path) -> None:
    arrays, card = fitted.artifact()
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    sha = save_bundle(tmp_path / "bundle", arrays, card)
    again = load(*load_bundle(tmp_path / "bundle", sha))
    asked = [histories.of(user) for user in range(12)]
    assert np.array_equal(again.movie_ids, histories.movie_ids)
    assert np.array_equal(again.score(asked), fitted.score(asked))
    assert np.array_equal(again.similar(4), fitted.similar(4))
    assert np.array_equal(again.contributions(asked[0], 9), fitted.contributions(asked[0], 9))


def test_several_films_are_explained_as_each_alone(
    fitted: Recommender, histories: TrainingHistories
) -> None:
    items = np.array([9, 0, FILMS - 1, 9])
    for history in (histories.of(1), histories.of(2)[-1:]):
        together = contributions_of(fitted, history, items)
        alone = np.stack([fitted.contributions(history, int(item)) for item in items])
        np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-7)
        assert together.shape == (4, len(history))
    if hasattr(fitted, "contributions_of") and fitted.name in LINEAR:  # the score is the judge
        history = histories.of(3)
        gave = contributions_of(fitted, history, items).sum(axis=1)
        score = fitted.score([history])[0][items]
        baseline = baseline_of(fitted, len(history))[items]
        np.testing.assert_allclose(baseline + gave, score, rtol=1e-3, atol=1e-4)


def test_same_seed_same_bytes(name: str, histories: TrainingHistories, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        save_bundle(tmp_path / folder, *new(name).fit(histories, seed=11).artifact())
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "card.json" in files
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_fault_45_no_interaction_is_refused(name: str) -> None:
    with pytest.raises(TrainingDataError, match="collect"):
        new(name).fit(make_histories([[], []]))
    with pytest.raises(TrainingDataError):
        new(name).fit(make_histories([]))


@pytest.mark.parametrize("films", [[5], [5, 6, 5, 9]])
def test_fault_45_one_user_is_enough(name: str, films: list[int]) -> None:
    model = new(name).fit(make_histories([films]))
    scores = model.score([np.array(films[:1])])
    assert np.isfinite(scores).all()
    assert np.argmax(model.score([np.empty(0, int)])[0]) == 5


def test_fault_35_nan_is_refused(fitted: Recommender, name: str) -> None:
    arrays, card = fitted.artifact()
    for key, array in arrays.items():
        if array.dtype.kind == "f" and array.size:
            broken = array.copy()
            broken.flat[0] = np.nan
            with pytest.raises(ArtifactCorruptError, match=key):
                load({**arrays, key: broken}, card)


def test_fault_37_wrong_shapes_are_refused(fitted: Recommender) -> None:
    arrays, card = fitted.artifact()
    for key in arrays:
        missing = {other: array for other, array in arrays.items() if other != key}
        with pytest.raises(ArtifactCorruptError, match=key):
            load(missing, card)
        with pytest.raises(ArtifactCorruptError):
            load({**arrays, key: arrays[key][..., None]}, card)
    with pytest.raises(ArtifactCorruptError):
        load({**arrays, "movie_ids": arrays["movie_ids"][:-1]}, card)


def test_contributions_have_a_place_per_film(
    fitted: Recommender, histories: TrainingHistories
) -> None:
    history = histories.of(2)
    assert fitted.contributions(history, 1).shape == (len(history),)
    assert fitted.contributions(np.empty(0, np.int64), 1).shape == (0,)


def test_contributions_add_up(histories: TrainingHistories, subtests_of: Callable) -> None:
    for name in LINEAR:
        model, rest = subtests_of(name)
        for user in range(20):
            history = histories.of(user)
            scores = model.score([history])[0]
            without = rest(len(history))
            for film in (0, 7, 33):
                total = model.contributions(history, film).sum() + without[film]
                assert total == pytest.approx(scores[film], rel=1e-4, abs=1e-6)


@pytest.fixture
def subtests_of(histories: TrainingHistories) -> Callable:
    def make(name: str):
        model = new(name).fit(histories)
        nothing = model.score([np.empty(0, np.int64)])[0]
        return model, getattr(model, "baseline", lambda length: nothing)

    return make


def test_similar_ranks_all_others(fitted: Recommender) -> None:
    found = fitted.similar(12)
    assert found.shape == (FILMS,)
    assert found[12] == -np.inf
    assert np.isfinite(np.delete(found, 12)).all()


@pytest.mark.parametrize("name", LINEAR)
def test_similar_finds_the_neighbours_on_the_ring(name: str, histories: TrainingHistories) -> None:
    model = new(name).fit(histories)
    near = 0
    for film in range(FILMS):
        best = np.argsort(-model.similar(film))[:4]
        near += sum(min(abs(film - other), FILMS - abs(film - other)) <= 6 for other in best)
    assert near / (4 * FILMS) > 0.8  # by chance: 0.2


def test_beats_popularity_by_its_bound(name: str, histories: TrainingHistories) -> None:
    split = leave_last_out(histories)
    figures = {
        algorithm: evaluate(new(algorithm).fit(split.train), split, samples=100)
        for algorithm in ("popularity", name)
    }
    ours = figures[name].metrics["ndcg@10"].value
    assert ours >= BOUNDS[name] * figures["popularity"].metrics["ndcg@10"].value


def test_unknown_names_and_parameters_are_named(name: str) -> None:
    with pytest.raises(ConfigurationError, match="no_such"):
        create("no_such")
    with pytest.raises(ConfigurationError, match="no_such"):
        create(name, no_such=1)
    with pytest.raises(ModelError, match="no_such"):
        load({}, {"algorithm": "no_such"})
