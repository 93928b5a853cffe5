"""The dial: nothing at 0, nothing twice, and nearer to the history's genres as it goes up."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from movie_mlops.models.serving.reranking import divergence, mean_mix, rerank

GENRES = 6
DIALS = (0.0, 0.25, 0.5, 0.75, 1.0)


def films(seed: int, count: int) -> tuple[NDArray[np.float32], ...]:
    """Scores that come best first, genres, and a viewer's mix; some films have no genre."""
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.exponential(size=count))[::-1].astype(np.float32)
    mixes = (rng.random((count, GENRES)) < 0.3).astype(np.float32)
    mixes /= np.maximum(mixes.sum(axis=1, keepdims=True), 1)
    return scores, mixes, mean_mix(mixes[rng.integers(0, max(count, 1), 5)] if count else mixes)


@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 120),
    k=st.integers(1, 130),
    dial=st.floats(0, 1),
)
def test_every_list_is_one(seed: int, count: int, k: int, dial: float) -> None:
    scores, mixes, wanted = films(seed, count)
    chosen = rerank(scores, mixes, wanted, k, dial)
    assert len(chosen) == len(set(chosen)) == min(k, count)
    assert all(0 <= place < count for place in chosen)
    assert chosen == rerank(scores, mixes, wanted, k, dial)
    assert rerank(scores, mixes, wanted, k, 0.0) == list(range(min(k, count)))


@given(seed=st.integers(0, 10**6), dial=st.floats(0, 1))
def test_without_genres_the_scores_decide(seed: int, dial: float) -> None:
    scores, mixes, wanted = films(seed, 40)
    assert rerank(scores, 0 * mixes, 0 * wanted, 10, dial) == list(range(10))


def test_lists_come_nearer_to_the_viewers_mix_as_the_dial_goes_up() -> None:
    far, scored = [], []
    for dial in DIALS:
        divergences, sums = [], []
        for seed in range(60):
            scores, mixes, wanted = films(seed, 100)
            chosen = rerank(scores, mixes, wanted, 10, dial)
            divergences.append(float(divergence(wanted, mean_mix(mixes[chosen]))))
            sums.append(float(scores[chosen].sum()))
        far.append(np.mean(divergences))
        scored.append(np.mean(sums))
    assert all(later <= earlier + 1e-3 for earlier, later in pairwise(far))
    assert far[-1] < far[0] / 2
    assert all(later <= earlier for earlier, later in pairwise(scored))


def test_divergence_is_nought_for_the_same_mix_and_finite_for_the_opposite_one() -> None:
    wanted = np.array([0.5, 0.5, 0, 0], np.float32)
    assert divergence(wanted, wanted) == pytest.approx(0)
    other = divergence(wanted, np.array([0, 0, 1, 0], np.float32))
    assert np.isfinite(other)
    assert other > divergence(wanted, np.array([1, 0, 0, 0], np.float32)) > 0
