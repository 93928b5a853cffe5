"""A list with a dial: from the best scores alone to varied films in the mix of one's genres.

Greedy, place by place, as maximal marginal relevance (Carbonell & Goldstein 1998), with the
calibration of Steck 2018 beside it. Pure functions: the same input gives the same list.
"""

import numpy as np
from numpy.typing import NDArray

from movie_mlops.models.algorithms.base import FloatArray

CANDIDATES = 100
"""How many of the best films a list is chosen from; twice its length when that is more."""
SMOOTHING = 0.01  # of a list's mix with the wanted one, so that a missing genre costs a finite sum
_REPETITION = 0.2  # what one more film like a chosen one costs, beside one nat of divergence

Values = NDArray[np.float64]


def pool(k: int) -> int:
    """How many candidates a list of k is chosen from."""
    return max(CANDIDATES, 2 * k)


def rerank(
    scores: FloatArray, mixes: FloatArray, wanted: FloatArray, k: int, dial: float
) -> list[int]:
    """Positions of k candidates (all, when there are fewer), the first place first.

    `scores` [n] are finite, the best first. `mixes` [n, genres] are the films' genres, each row
    with sum 1, or 0 where none is known; `wanted` [genres] is the mix of the history likewise.
    `dial` 0 ... 1: at 0 the first k as they come, at 1 the scores decide between equals only.
    """
    k = min(k, len(scores))
    if dial <= 0 or not k:
        return list(range(k))
    spread = float(scores.max() - scores.min())
    relevance = (scores - scores.min()).astype(np.float64) / (spread or 1.0)
    # what is left of the score at the far end, so that it decides between equals
    weight = max(1.0 - dial, 1e-6)
    units = mixes / np.maximum(np.linalg.norm(mixes, axis=1, keepdims=True), 1e-12)
    alike, shown = np.zeros(len(scores)), np.zeros(mixes.shape[1])
    free = np.ones(len(scores), np.bool_)
    chosen: list[int] = []
    for place in range(k):
        cost = divergence(wanted, (shown + mixes) / (place + 1)) + _REPETITION * alike
        value = np.where(free, weight * relevance - dial * cost, -np.inf)
        best = int(value.argmax())
        chosen.append(best)
        free[best] = False
        shown += mixes[best]
        alike = np.maximum(alike, units @ units[best])
    return chosen


def divergence(wanted: FloatArray, shown: FloatArray | Values) -> Values:
    """Kullback-Leibler divergence in nats of `wanted` [genres] from mixes [..., genres]."""
    some = wanted > 0
    share = wanted[some].astype(np.float64)
    blurred = (1 - SMOOTHING) * shown[..., some].astype(np.float64) + SMOOTHING * share
    found: Values = (share * np.log(share / blurred)).sum(axis=-1)
    return found


def mean_mix(mixes: FloatArray) -> FloatArray:
    """The mix of several films [films, genres], with sum 1; zeros where no genre is known."""
    total = mixes.sum(axis=0)
    mean: FloatArray = total / max(float(total.sum()), 1e-12)
    return mean
