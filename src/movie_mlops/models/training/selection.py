"""Which of several recommenders earns its place: quality against cost, under stated limits."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from movie_mlops.models.algorithms.base import Recommender
from movie_mlops.models.training.evaluation import TOP, paired_difference
from movie_mlops.models.training.splitters import Split
from movie_mlops.models.training.trainer import Fitted

Values = NDArray[np.float64]
TIMED_USERS = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """What a champion may cost: milliseconds per list, MB while training, MB on disk."""

    latency_ms: float
    memory_mb: float
    bundle_mb: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a fitted recommender costs; `latency_ms` is the 95th percentile of one list.

    A list is the scores of one history, the best ten of them, and the reasons of these ten, in
    milliseconds of this process's CPU time (all threads).
    """

    train_cpu_seconds: float
    peak_memory_mb: float
    bundle_mb: float
    list_ms: float
    latency_ms: float

    def to_json(self) -> dict[str, float]:
        """Name to figure, rounded as it was measured."""
        return {name: round(value, 6) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen algorithm and, for each algorithm in the order they were tried, why or why not."""

    champion: str
    reasons: Mapping[str, str]


def measure_cost(fitted: Fitted[Recommender], split: Split) -> Cost:
    """Size of the artifact, and the time to make lists for some users of the split, one by one."""
    arrays, _ = fitted.model.artifact()
    histories = [split.train.of(user) for user in split.users[:TIMED_USERS]]
    with threadpool_limits(limits=1, user_api="blas"):  # idle BLAS threads spin, and would count
        seconds = [_timed(partial(_one_list, fitted.model, history)) for history in histories]
    return Cost(
        fitted.cpu_seconds,
        fitted.peak_memory_mb,
        sum(array.nbytes for array in arrays.values()) / 2**20,
        1000 * float(np.median(seconds)),
        1000 * float(np.quantile(seconds, 0.95)),
    )


def over_limits(cost: Cost, limits: Limits) -> str | None:
    """Which limit is passed, in words; None when none is."""
    for name, unit, value, limit in (
        ("a list takes", "ms", cost.latency_ms, limits.latency_ms),
        ("training takes", "MB", cost.peak_memory_mb, limits.memory_mb),
        ("the bundle has", "MB", cost.bundle_mb, limits.bundle_mb),
    ):
        if value > limit:
            return f"over its limits: {name} {value:,.1f} {unit}, {limit:,.0f} are allowed"
    return None


def select(
    values: Mapping[str, Values], costs: Mapping[str, Cost], limits: Limits, seed: int
) -> Selection:
    """Let each algorithm, the cheapest to train first, challenge the best so far.

    `values` are one figure per user of the same users, higher is better. A dearer algorithm takes
    the place only when its mean is clearly higher: lower 95 % bound of the paired difference
    above 0. One that is over the limits takes no part, unless all are: then the cheapest stays.
    """
    order = sorted(values, key=lambda name: costs[name].train_cpu_seconds)
    reasons = {}
    champion = ""
    for name in order:
        over = over_limits(costs[name], limits)
        if over is not None:
            reasons[name] = over
        elif not champion:
            champion, reasons[name] = name, "the cheapest within the limits"
        else:
            found = paired_difference(values[name], values[champion], seed)
            told = f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f}) against {champion}"
            if found.low > 0:
                champion, reasons[name] = name, f"earns its place: {told}"
            else:
                reasons[name] = f"not clearly better: {told}"
    if not champion:
        champion = order[0]
        reasons[champion] += "; kept all the same, as nothing cheaper is there"
    return Selection(champion, reasons)


def _one_list(model: Recommender, history: NDArray[np.int32]) -> Sequence[Any]:
    scores = model.score([history])[0]
    scores[history] = -np.inf
    best = np.argpartition(-scores, min(TOP, len(scores) - 1))[:TOP]
    return [model.contributions(history, int(item)) for item in best]


def _timed(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
