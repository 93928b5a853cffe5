"""How good recommendations are: full ranking, sampled ranking, what lies beyond accuracy.

Candidates are all films of the catalogue that the user has not in training; a tie counts half
a place. Figures carry 95 % bootstrap intervals over users.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.versions import Interval
from movie_mlops.models.algorithms.base import FloatArray, IntArray, Scorer, scores_of
from movie_mlops.models.training.splitters import Split

TOP = 10
RECALL_DEPTH = 20
SAMPLED_NEGATIVES = 99
BOOTSTRAP_SAMPLES = 1_000
NEWCOMER_CLICKS = tuple(range(1, 21))
_BATCH_BYTES = 64 << 20  # of scores at once
_CALIBRATION_SMOOTHING = 0.01

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rankings:
    """Where a model put the hidden films, and what it would show.

    `ranks` and `sampled_ranks` go with `split.targets` (from 1; .5 steps are ties; the latter
    among the negatives only); `top` [users, TOP] are the first films of each list.
    """

    split: Split
    ranks: Values
    sampled_ranks: Values
    top: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Figures of one algorithm on one split; `to_json` is what `evaluate --json` prints."""

    protocol: str
    users: int
    items: int
    metrics: Mapping[str, Interval]
    beyond: Mapping[str, float] = field(default_factory=dict)
    per_user: Mapping[str, Values] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Metric name to value with bounds, then the plain figures."""
        figures: dict[str, Any] = {
            name: {"value": figure.value, "low": figure.low, "high": figure.high}
            for name, figure in self.metrics.items()
        }
        return figures | dict(self.beyond)


def evaluate(
    model: Scorer,
    split: Split,
    seed: int = 0,
    genres: Sequence[Sequence[str]] | None = None,
    samples: int = BOOTSTRAP_SAMPLES,
) -> EvaluationReport:
    """Rank, measure and bound; `genres` (one list per film of the catalogue) adds calibration."""
    rankings = rank(model, split, seed)
    per_user = user_metrics(rankings)
    metrics = {name: bootstrap(values, seed, samples) for name, values in per_user.items()}
    beyond = beyond_accuracy(rankings, genres)
    return EvaluationReport(
        split.protocol, len(split.users), split.train.item_count, metrics, beyond, per_user
    )


def rank(model: Scorer, split: Split, seed: int = 0) -> Rankings:
    """Score every evaluated user in batches of bounded memory and rank the hidden films.

    Without given negatives, 99 films per user are drawn that the user has neither in training
    nor hidden; the draw depends on the seed only, so it is the same for every model.
    """
    rng = np.random.default_rng(seed)
    ranks, sampled, tops = [], [], []
    for start, stop in batches(len(split.users), split.train.item_count):
        users = split.users[start:stop]
        histories = [split.train.of(user) for user in users]
        scores = scores_of(model, histories, split.train.times_of(users))
        for row, user in enumerate(users):
            scores[row, split.train.of(user)] = -np.inf
            targets = split.targets[split.indptr[start + row] : split.indptr[start + row + 1]]
            ranks.append(_ranks(scores[row], targets))
            negatives = _negatives(split, start + row, targets, rng)
            sampled.append(_sampled_ranks(scores[row], targets, negatives))
        tops.append(top_films(scores, TOP))
    return Rankings(
        split,
        np.concatenate(ranks) if ranks else np.empty(0),
        np.concatenate(sampled) if sampled else np.empty(0),
        np.concatenate(tops) if tops else np.empty((0, TOP), np.int32),
    )


def batches(users: int, items: int) -> Iterator[tuple[int, int]]:
    """Ranges of users whose scores fit the memory that scoring may take."""
    size = max(1, _BATCH_BYTES // (4 * max(items, 1)))
    for start in range(0, users, size):
        yield start, min(start + size, users)


def top_films(scores: FloatArray, count: int) -> NDArray[np.int32]:
    """Positions of the best films per row, best first; -1 where fewer have a finite score."""
    count = min(count, scores.shape[1])
    best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    best.sort(axis=1)  # films of equal score come in the order of the catalogue
    values = np.take_along_axis(scores, best, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    best = np.take_along_axis(best, order, axis=1)
    best[np.take_along_axis(values, order, axis=1) == -np.inf] = -1
    return best.astype(np.int32)


def _ranks(scores: FloatArray, targets: NDArray[np.int32]) -> Values:
    """1 + films with a higher score + half of the others with the same one."""
    if len(targets) == 1:
        own = scores[targets[0]]
        higher = np.count_nonzero(scores > own)
        return np.array([1 + higher + 0.5 * (np.count_nonzero(scores == own) - 1)])
    ordered = np.sort(scores)
    own = scores[targets]
    right = np.searchsorted(ordered, own, side="right")
    left = np.searchsorted(ordered, own, side="left")
    return 1 + (len(ordered) - right) + 0.5 * (right - left - 1)


def _sampled_ranks(
    scores: FloatArray, targets: NDArray[np.int32], negatives: NDArray[np.integer[Any]]
) -> Values:
    """The rank of each hidden film among itself and the negatives; its own copy is ignored."""
    own = scores[targets][:, None]
    others = scores[negatives][None, :]
    foreign = negatives[None, :] != targets[:, None]
    higher = ((others > own) & foreign).sum(axis=1)
    equal = ((others == own) & foreign).sum(axis=1)
    ranks: Values = 1 + higher + 0.5 * equal
    return ranks


def _negatives(
    split: Split, place: int, targets: NDArray[np.int32], rng: np.random.Generator
) -> NDArray[np.integer[Any]]:
    if split.negatives is not None:
        given = split.negatives[place]
        known: NDArray[np.int32] = given[given >= 0]
        return known
    free = np.ones(split.train.item_count, bool)
    free[split.train.of(split.users[place])] = False
    free[targets] = False
    candidates = np.flatnonzero(free)
    drawn: IntArray = rng.choice(candidates, min(SAMPLED_NEGATIVES, len(candidates)), replace=False)
    return drawn


def user_metrics(rankings: Rankings) -> dict[str, Values]:
    """Metric name to one value per evaluated user.

    With one hidden film: hit rate and NDCG at 10, recall at 20, reciprocal rank. With several:
    any hit, NDCG against the ideal list, share found, the best one's reciprocal rank.
    """
    indptr = rankings.split.indptr
    full, sampled = rankings.ranks, rankings.sampled_ranks
    return {
        "ndcg@10": _ndcg(full, indptr),
        "hit_rate@10": np.minimum(_sums((full <= TOP).astype(float), indptr), 1.0),
        "recall@20": _sums((full <= RECALL_DEPTH).astype(float), indptr) / np.diff(indptr),
        "mrr": 1 / np.minimum.reduceat(full, indptr[:-1]) if len(full) else np.empty(0),
        "sampled_ndcg@10": _ndcg(sampled, indptr),
        "sampled_hit_rate@10": np.minimum(_sums((sampled <= TOP).astype(float), indptr), 1.0),
    }


def _ndcg(ranks: Values, indptr: IntArray) -> Values:
    gains = _sums(np.where(ranks <= TOP, 1 / np.log2(ranks + 1), 0.0), indptr)
    ideal = np.cumsum(1 / np.log2(np.arange(2, TOP + 2)))
    best: Values = ideal[np.minimum(np.diff(indptr), TOP) - 1]
    # Sampled lists hold one hidden film at a time, so ties at the top could exceed the ideal.
    return np.minimum(gains / best, 1.0)


def _sums(values: Values, indptr: IntArray) -> Values:
    totals = np.concatenate([[0.0], np.cumsum(values)])
    sums: Values = np.maximum(totals[indptr[1:]] - totals[indptr[:-1]], 0.0)
    return sums


def bootstrap(
    values: Values, seed: int = 0, samples: int = BOOTSTRAP_SAMPLES, level: float = 0.95
) -> Interval:
    """Mean with the percentile interval of means over users drawn with replacement."""
    if not len(values):
        return Interval(0.0, 0.0, 0.0)
    rng = np.random.default_rng(seed)
    # Users with the same value are drawn together: exact, and rank metrics have few values.
    distinct, counts = np.unique(values, return_counts=True)
    drawn = rng.multinomial(len(values), counts / len(values), size=samples)
    means = drawn @ distinct / len(values)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.mean(values)), float(low), float(high))


def paired_difference(
    challenger: Values,
    champion: Values,
    seed: int = 0,
    samples: int = BOOTSTRAP_SAMPLES,
    level: float = 0.95,
) -> Interval:
    """Mean of challenger minus champion over the same users, with its interval."""
    return bootstrap(np.asarray(challenger) - np.asarray(champion), seed, samples, level)


def beyond_accuracy(
    rankings: Rankings, genres: Sequence[Sequence[str]] | None = None
) -> dict[str, float]:
    """What accuracy does not say about the first ten films of all lists.

    coverage@10: share of the catalogue in any list. novelty@10: mean bits of surprise,
    -log2 of the share of users who watched the film. popularity_bias@10: mean count of the
    films shown over the mean count of the films in the same users' histories (1: none).
    calibration@10: mean divergence of a list's genres from the history's (0: same mix).
    """
    train, shown = rankings.split.train, rankings.top[rankings.top >= 0]
    if not len(shown):
        return {"coverage@10": 0.0, "novelty@10": 0.0, "popularity_bias@10": 0.0}
    counts = train.counts().astype(np.float64)
    share = np.maximum(counts, 0.5) / max(train.user_count, 1)
    watched = np.concatenate([train.of(user) for user in rankings.split.users])
    figures = {
        "coverage@10": len(np.unique(shown)) / train.item_count,
        "novelty@10": float(-np.log2(np.minimum(share[shown], 1.0)).mean()),
        "popularity_bias@10": float(counts[shown].mean() / max(counts[watched].mean(), 1e-12)),
    }
    if genres is not None:
        figures["calibration@10"] = _calibration(rankings, genres)
    return figures


def _calibration(rankings: Rankings, genres: Sequence[Sequence[str]]) -> float:
    """Mean Kullback-Leibler divergence (nats) of list from history, after Steck 2018."""
    names = {name: place for place, name in enumerate(sorted({g for of in genres for g in of}))}
    mix = np.zeros((len(genres), max(len(names), 1)))
    for film, of in enumerate(genres):
        for name in of:
            mix[film, names[name]] = 1 / len(of)
    train, total = rankings.split.train, 0.0
    for place, user in enumerate(rankings.split.users):
        history = mix[train.of(user)].sum(axis=0)
        shown = mix[rankings.top[place][rankings.top[place] >= 0]].sum(axis=0)
        history, shown = history / max(history.sum(), 1e-12), shown / max(shown.sum(), 1e-12)
        blurred = (1 - _CALIBRATION_SMOOTHING) * shown + _CALIBRATION_SMOOTHING * history
        some = history > 0
        total += float((history[some] * np.log(history[some] / blurred[some])).sum())
    return total / max(len(rankings.split.users), 1)


def newcomer_curve(
    champion: Scorer,
    baseline: Scorer,
    split: Split,
    clicks: Sequence[int] = NEWCOMER_CLICKS,
    seed: int = 0,
) -> dict[int, Interval]:
    """NDCG@10 of champion minus baseline when only a user's last k training rows are known.

    Candidates stay those of the whole training history. A k that no user reaches is left out.
    """
    lengths = np.diff(split.train.indptr)[split.users]
    curve = {}
    for count in clicks:
        chosen = np.flatnonzero(lengths >= count)
        if len(chosen):
            ours, theirs = (
                _newcomer_ndcg(model, split, chosen, count) for model in (champion, baseline)
            )
            curve[count] = paired_difference(ours, theirs, seed)
    return curve


def _newcomer_ndcg(model: Scorer, split: Split, chosen: IntArray, count: int) -> Values:
    values = []
    for start, stop in batches(len(chosen), split.train.item_count):
        places = chosen[start:stop]
        histories = [split.train.of(user) for user in split.users[places]]
        latest = [history[-count:] for history in histories]
        times = split.train.times_of(split.users[places])
        scores = scores_of(model, latest, times and [at[-count:] for at in times])
        for row, place in enumerate(places):
            scores[row, histories[row]] = -np.inf
            targets = split.targets[split.indptr[place] : split.indptr[place + 1]]
            ends = np.array([0, len(targets)])
            values.append(_ndcg(_ranks(scores[row], targets), ends))
    return np.concatenate(values)
