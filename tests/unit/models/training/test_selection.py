"""The choice among recommenders: quality against cost, under limits."""

import numpy as np
import pytest

from movie_mlops.models.algorithms import create
from movie_mlops.models.algorithms.base import TrainingHistories
from movie_mlops.models.training.selection import Cost, Limits, measure_cost, over_limits, select
from movie_mlops.models.training.splitters import leave_last_out
from movie_mlops.models.training.trainer import fit_measured

LIMITS = Limits(latency_ms=10, memory_mb=1_000, bundle_mb=100)
USERS = 400


def cost(seconds: float, latency: float = 1, memory: float = 100, bundle: float = 1) -> Cost:
    return Cost(seconds, memory, bundle, latency / 2, latency)


def values(mean: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 0.1, USERS)


def test_a_dearer_model_that_is_clearly_better_earns_its_place() -> None:
    found = select(
        {"network": values(0.3, 1), "cheap": values(0.1, 2)},
        {"network": cost(500), "cheap": cost(1)},
        LIMITS,
        seed=0,
    )
    assert found.champion == "network"
    assert list(found.reasons) == ["cheap", "network"]  # the cheapest is tried first
    assert "earns its place" in found.reasons["network"]


def test_a_dearer_model_within_noise_does_not() -> None:
    same = values(0.2, 1)
    found = select(
        {"cheap": same, "network": same + values(0.001, 2)},
        {"cheap": cost(1), "network": cost(500)},
        LIMITS,
        seed=0,
    )
    assert found.champion == "cheap"
    assert "not clearly better" in found.reasons["network"]


@pytest.mark.parametrize(
    ("heavy", "word"),
    [
        (cost(500, latency=11), "a list takes 11.0 ms, 10 are allowed"),
        (cost(500, memory=2_000), "training takes 2,000.0 MB, 1,000 are allowed"),
        (cost(500, bundle=101), "the bundle has 101.0 MB, 100 are allowed"),
    ],
)
def test_a_better_model_over_a_limit_takes_no_part(heavy: Cost, word: str) -> None:
    assert word in (over_limits(heavy, LIMITS) or "")
    found = select(
        {"cheap": values(0.1, 1), "heavy": values(0.5, 2)},
        {"cheap": cost(1), "heavy": heavy},
        LIMITS,
        seed=0,
    )
    assert found.champion == "cheap"
    assert word in found.reasons["heavy"]


def test_when_all_are_over_the_cheapest_stays_and_says_so() -> None:
    found = select(
        {"a": values(0.1, 1), "b": values(0.5, 2)},
        {"a": cost(1, latency=99), "b": cost(2, latency=999)},
        LIMITS,
        seed=0,
    )
    assert found.champion == "a"
    assert "kept all the same" in found.reasons["a"]


def test_the_cost_of_a_real_model_is_measured() -> None:
    rng = np.random.default_rng(3)
    films, people, length = 50, 30, 12
    rows = np.concatenate([rng.permutation(films)[:length] for _ in range(people)])
    histories = TrainingHistories(
        np.arange(1, films + 1),
        tuple(map(str, range(people))),
        np.arange(0, people * length + 1, length),
        rows.astype(np.int32),
    )
    split = leave_last_out(histories)
    small, large = (
        measure_cost(fit_measured(lambda: create(name).fit(split.train)), split)  # noqa: B023
        for name in ("popularity", "sequence_linear")
    )
    assert large.bundle_mb > small.bundle_mb > 0
    assert large.latency_ms >= large.list_ms > small.list_ms > 0
    assert large.peak_memory_mb > 10
