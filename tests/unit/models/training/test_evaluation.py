"""The figures against a slow reference that is easy to believe."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movie_mlops.models.algorithms.base import TrainingHistories
from movie_mlops.models.algorithms.popularity import Popularity
from movie_mlops.models.training import evaluation
from movie_mlops.models.training.evaluation import (
    bootstrap,
    evaluate,
    newcomer_curve,
    paired_difference,
    rank,
    top_films,
    user_metrics,
)
from movie_mlops.models.training.splitters import Split, leave_last_out

FILMS = 15


class Table:
    """A recommender whose scores are a fixed table, by the last film of the history."""

    name = "table"

    def __init__(self, seed: int, levels: int) -> None:
        self.movie_ids = np.arange(FILMS)
        rng = np.random.default_rng(seed)
        self.table = rng.integers(0, levels, (FILMS + 1, FILMS)).astype(np.float32)

    def score(self, histories: Any) -> np.ndarray:
        return np.stack([self.table[films[-1] if len(films) else FILMS] for films in histories])


@st.composite
def splits(draw: st.DrawFn, most_targets: int = 3) -> Split:
    """Each user has some films in training and some others hidden."""
    lists, hidden = [], []
    for _ in range(draw(st.integers(1, 6))):
        films = draw(st.permutations(range(FILMS)))
        cut = draw(st.integers(0, 8))
        lists.append(films[:cut])
        hidden.append(films[cut : cut + draw(st.integers(1, most_targets))])
    train = TrainingHistories(
        np.arange(FILMS),
        tuple(map(str, range(len(lists)))),
        np.cumsum([0, *map(len, lists)]),
        np.array([film for films in lists for film in films], np.int32),
    )
    targets = np.array([film for films in hidden for film in films], np.int32)
    indptr = np.cumsum([0, *map(len, hidden)])
    return Split("test", train, np.arange(len(lists)), indptr, targets)


def slow_rank(scores: np.ndarray, candidates: list[int], target: int) -> float:
    place = 1.0
    for film in candidates:
        if film != target:
            place += 1.0 if scores[film] > scores[target] else 0.0
            place += 0.5 if scores[film] == scores[target] else 0.0
    return place


def slow_metrics(ranks: list[float]) -> dict[str, float]:
    gain = sum(1 / np.log2(place + 1) for place in ranks if place <= 10)
    ideal = sum(1 / np.log2(place + 1) for place in range(1, min(len(ranks), 10) + 1))
    return {
        "ndcg@10": min(gain / ideal, 1.0),
        "hit_rate@10": float(any(place <= 10 for place in ranks)),
        "recall@20": sum(place <= 20 for place in ranks) / len(ranks),
        "mrr": 1 / min(ranks),
    }


@given(splits(), st.integers(0, 100), st.sampled_from([2, 5, 1000]))
@settings(max_examples=60)
def test_ranks_and_metrics_are_those_of_the_reference(split: Split, seed: int, levels: int) -> None:
    model = Table(seed, levels)
    rankings = rank(model, split)
    found = user_metrics(rankings)
    for place, user in enumerate(split.users):
        history = split.train.of(user)
        scores = model.score([history])[0]
        candidates = [film for film in range(FILMS) if film not in history]
        chosen = slice(split.indptr[place], split.indptr[place + 1])
        expected = [slow_rank(scores, candidates, film) for film in split.targets[chosen]]
        assert rankings.ranks[chosen].tolist() == expected
        for name, value in slow_metrics(expected).items():
            assert found[name][place] == pytest.approx(value)


@given(splits(most_targets=1), st.integers(0, 100), st.sampled_from([2, 1000]))
@settings(max_examples=40)
def test_sampled_ranks_are_among_the_given_negatives(split: Split, seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    negatives = np.stack([rng.permutation(FILMS)[:6] for _ in split.users]).astype(np.int32)
    negatives[0, 4:] = -1
    given_split = Split("ncf", split.train, split.users, split.indptr, split.targets, negatives)
    model = Table(seed, levels)
    rankings = rank(model, given_split)
    for place, user in enumerate(split.users):
        history = split.train.of(user)
        scores = model.score([history])[0].copy()
        scores[history] = -np.inf
        target = int(split.targets[place])
        others = [film for film in negatives[place].tolist() if film not in (-1, target)]
        assert rankings.sampled_ranks[place] == slow_rank(scores, others, target)


def test_drawn_negatives_are_new_films_and_the_same_for_every_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    films = 300
    lists = np.random.default_rng(0).permuted(np.tile(np.arange(films), (20, 1)), axis=1)[:, :30]
    train = TrainingHistories(
        np.arange(films), tuple(map(str, range(20))), np.arange(21) * 30,
        lists.reshape(-1).astype(np.int32),
    )  # fmt: skip
    split = leave_last_out(train)
    drawn: list[list[int]] = []
    real = evaluation._sampled_ranks

    def spy(scores: Any, targets: Any, negatives: Any) -> Any:
        drawn.append(negatives.tolist())
        return real(scores, targets, negatives)

    monkeypatch.setattr(evaluation, "_sampled_ranks", spy)
    model = Popularity().fit(split.train)
    rank(model, split, seed=4)
    first, drawn[:] = list(drawn), []
    monkeypatch.setattr(evaluation, "_BATCH_BYTES", 4 * films * 3)  # other batches, same draw
    rank(model, split, seed=4)
    assert drawn == first
    for place, negatives in enumerate(first):
        assert len(set(negatives)) == 99
        assert not set(negatives) & set(train.of(place).tolist())


def test_top_films_are_best_first_without_seen_ones() -> None:
    scores = np.array([[1, 5, 5, -np.inf, 2], [-np.inf, -np.inf, 3, -np.inf, -np.inf]], np.float32)
    assert top_films(scores, 3).tolist() == [[1, 2, 4], [2, -1, -1]]
    assert top_films(scores, 50).shape == (2, 5)


def test_bootstrap_agrees_with_resampling_users() -> None:
    rng = np.random.default_rng(1)
    values = rng.choice([0.0, 0.2, 1.0], 400, p=[0.7, 0.2, 0.1])
    found = bootstrap(values, seed=5, samples=4_000)
    means = [rng.choice(values, 400).mean() for _ in range(4_000)]
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(np.quantile(means, 0.025), abs=0.004)
    assert found.high == pytest.approx(np.quantile(means, 0.975), abs=0.004)
    assert bootstrap(values, seed=5) == bootstrap(values, seed=5)


def test_paired_difference_sees_a_small_constant_gain() -> None:
    rng = np.random.default_rng(2)
    champion = rng.random(300)
    challenger = champion + 0.01 + rng.normal(0, 0.005, 300)
    gain = paired_difference(challenger, champion)
    assert 0 < gain.low < 0.01 < gain.high < 0.02
    assert paired_difference(champion, champion).high == 0


def ring(people: int = 40) -> TrainingHistories:
    starts = np.arange(people) % FILMS
    items = ((starts[:, None] + np.arange(6)) % FILMS).astype(np.int32)
    users = tuple(map(str, range(people)))
    return TrainingHistories(np.arange(FILMS), users, np.arange(people + 1) * 6, items.reshape(-1))


def test_beyond_accuracy_of_popularity() -> None:
    split = leave_last_out(ring())
    genres = [["Drama"] if film % 2 else ["Comedy", "Drama"] for film in range(FILMS)]
    report = evaluate(Popularity().fit(split.train), split, genres=genres, samples=50)
    beyond = report.beyond
    assert beyond["coverage@10"] == 1.0  # 15 films, 10 shown, 5 seen: all turn up
    assert beyond["novelty@10"] > 0
    assert beyond["popularity_bias@10"] == pytest.approx(1.0, abs=0.1)
    assert 0 <= beyond["calibration@10"] < 0.1
    figures = report.to_json()
    assert set(figures["ndcg@10"]) == {"value", "low", "high"}
    assert figures["ndcg@10"]["low"] <= figures["ndcg@10"]["value"] <= figures["ndcg@10"]["high"]
    assert report.users == 40
    assert report.items == FILMS


def test_newcomer_curve_compares_the_same_candidates() -> None:
    split = leave_last_out(ring())
    model = Popularity().fit(split.train)
    curve = newcomer_curve(model, model, split, clicks=(1, 3, 9))
    assert sorted(curve) == [1, 3]  # nobody has nine films
    assert all(figure.value == figure.low == figure.high == 0 for figure in curve.values())


def test_nobody_to_evaluate_gives_zeros() -> None:
    train = TrainingHistories(np.arange(3), ("a",), np.array([0, 1]), np.array([2], np.int32))
    report = evaluate(Popularity().fit(train), leave_last_out(train))
    assert report.users == 0
    assert report.metrics["ndcg@10"].value == 0
