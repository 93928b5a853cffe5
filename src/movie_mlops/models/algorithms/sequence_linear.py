"""Time-aware ridge regression from the films watched before to the next film.

The input at each place of a history is every earlier film, weighted by exp(-places ago / tau),
for two taus side by side; the output is the film at that place. Histories count reversed as
well, with a smaller weight. Everything is linear, so every score is a sum over watched films.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.errors import ArtifactCorruptError
from movie_mlops.models.algorithms.base import (
    Arrays,
    Card,
    FloatArray,
    IntArray,
    TrainingHistories,
)
from movie_mlops.models.algorithms.popularity import checked, interaction_shares, without

SMALLEST_DECAY = 0.001
MIN_COUNT = 3  # a film with fewer interactions has the prior only
TARGET_OFFSET = 20.0
LEAST_PRIOR = 0.01  # keeps films that no map ranks in the order of popularity
_PLACES_AT_ONCE = 65_536  # places whose temporaries stay in the processor's cache


class SequenceLinear:
    """One map [modelled films, modelled films] per time scale, and a prior for newcomers.

    Score of film j = sum over watched films i of sum over scales f of
    exp(-age of i / tau_f) maps[f][i, j], plus `baseline(history length)[j]`. The baseline is
    popularity, as heavy as what an average history would have added in the places that this one
    lacks: for newcomers it decides, after some forty films it is hardly there.
    `max_memory_mb` bounds the maps: the films with most interactions are modelled, the others
    have the baseline only; the card says how many.
    """

    name: ClassVar[str] = "sequence_linear"

    def __init__(
        self,
        time_scales: Sequence[float] = (4.0, 25.0),
        ridge: Sequence[float] = (500.0, 2000.0),
        reversed_weight: float = 0.3,
        target_power: float = -0.1,
        max_memory_mb: float = 256.0,
    ) -> None:
        self._parameters: dict[str, Any] = {
            "time_scales": list(time_scales),
            "ridge": list(ridge),
            "reversed_weight": reversed_weight,
            "target_power": target_power,
            "max_memory_mb": max_memory_mb,
        }
        self._decays = _decays(time_scales)
        self._set(
            np.empty(0, np.int64),
            np.empty(0, np.int32),
            np.empty(0, np.float32),
            np.ones(1, np.float32),
            np.empty((len(time_scales), 0, 0), np.float32),
        )

    def _set(
        self,
        movie_ids: IntArray,
        modelled: NDArray[np.int32],
        prior: FloatArray,
        prior_weights: FloatArray,
        maps: FloatArray,
    ) -> None:
        self.movie_ids = movie_ids
        self.modelled = modelled
        self.prior = np.asarray(prior)
        self.prior_weights = np.asarray(prior_weights)
        self.maps = np.asarray(maps)  # no memmap subclass: its bookkeeping costs more than a row
        self._rows = np.full(len(movie_ids), -1, np.int64)
        self._rows[modelled] = np.arange(len(modelled))

    def fit(self, histories: TrainingHistories, seed: int = 0) -> Self:  # noqa: ARG002
        """Solve in closed form, on one BLAS thread so that the bytes are always the same."""
        # scipy.linalg takes a tenth of a second and is needed for training only
        from scipy.linalg import cho_factor, cho_solve  # noqa: PLC0415
        from threadpoolctl import threadpool_limits  # noqa: PLC0415

        shares = interaction_shares(histories)
        given = self._parameters
        counts = histories.counts()
        weight = ((counts + TARGET_OFFSET) ** given["target_power"]).astype(np.float32)
        prior = (shares * weight).astype(np.float32)
        modelled = self._most_watched(counts)
        size, scales = len(modelled), len(self._decays)
        rows = np.full(len(counts), -1, np.int64)
        rows[modelled] = np.arange(size)
        maps = np.empty((scales, size, size), np.float32)
        if not size:
            self._set(histories.movie_ids, modelled, prior, np.ones(1, np.float32), maps)
            return self
        gram, cross = _normal_equations(
            histories, rows, given["time_scales"], given["reversed_weight"]
        )
        gram.reshape(-1)[:: scales * size + 1] += np.repeat(
            np.asarray(given["ridge"], np.float32), size
        )
        with threadpool_limits(limits=1, user_api="blas"):
            # The transposed views are in LAPACK's own order: nothing is copied
            factor = cho_factor(gram.T, lower=False, overwrite_a=True, check_finite=False)
            solved = cho_solve(factor, cross.T, overwrite_b=True, check_finite=False)
        del gram, factor
        for scale in range(scales):
            np.multiply(
                solved[scale * size : (scale + 1) * size], weight[modelled], out=maps[scale]
            )
        prior_weights = _prior_weights(shares[modelled], prior[modelled], maps, self._decays)
        self._set(histories.movie_ids, modelled, prior, prior_weights, maps)
        return self

    def _most_watched(self, counts: IntArray) -> NDArray[np.int32]:
        scales = len(self._decays)
        most = int((self._parameters["max_memory_mb"] * 2**20 / (4 * scales)) ** 0.5)
        chosen = np.argsort(-counts, kind="stable")[:most]
        return np.sort(chosen[counts[chosen] >= MIN_COUNT]).astype(np.int32)

    def baseline(self, length: int | IntArray) -> FloatArray:
        """What is there without the films of a history of this length: the weighted prior."""
        weight = self.prior_weights[np.minimum(length, len(self.prior_weights) - 1)]
        scores: FloatArray = np.multiply.outer(weight, self.prior)
        return scores

    def score(self, histories: Sequence[NDArray[np.integer[Any]]]) -> FloatArray:
        """Scores; each history gathers the rows of its films, half a millisecond at the most."""
        scores = self.baseline(np.array([len(history) for history in histories], np.int64))
        for place, history in enumerate(histories):
            for scale, rows, weights in self._weights(history):
                scores[place, self.modelled] += weights @ self.maps[scale][rows]
        return scores

    def _weights(
        self, history: NDArray[np.integer[Any]]
    ) -> Iterator[tuple[int, IntArray, FloatArray]]:
        """Per time scale: rows of its map, and the weight of each."""
        latest = np.asarray(history)[::-1]
        for scale, decay in enumerate(self._decays):
            rows = self._rows[latest[: len(decay)]]
            known = rows >= 0
            yield scale, rows[known], decay[: len(rows)][known]

    def contributions(self, history: NDArray[np.integer[Any]], item: int) -> FloatArray:
        """Exact: their sum plus `baseline(len(history))[item]` is the score of the film."""
        found = np.zeros(len(history), np.float32)
        column = self._rows[item]
        if column < 0:
            return found
        for scale, decay in enumerate(self._decays):
            rows = self._rows[np.asarray(history)[::-1][: len(decay)]]
            known = np.flatnonzero(rows >= 0)
            found[len(history) - 1 - known] += decay[known] * self.maps[scale][rows[known], column]
        return found

    def similar(self, item: int) -> FloatArray:
        """What the film leads to and what leads to it, in the long run, less popularity's part.

        Films that are not modelled come last, the popular ones first.
        """
        scores = self.prior / np.maximum(self.prior.max(), 1e-12)
        row = self._rows[item]
        if row >= 0:
            prior = self.prior[self.modelled]
            alike = self.maps[-1][row] + self.maps[-1][:, row]
            alike /= np.sqrt(prior + prior.mean())
            scores += alike.min() - 1
            scores[self.modelled] = alike
        return without(scores, item)

    def artifact(self) -> tuple[Arrays, Card]:
        """The maps, the prior, the vocabulary; the card holds all parameters."""
        arrays: Arrays = {
            "movie_ids": self.movie_ids,
            "modelled": self.modelled,
            "prior": self.prior,
            "prior_weights": self.prior_weights,
            "maps": self.maps,
        }
        sizes = {
            "films": len(self.movie_ids),
            "modelled_films": len(self.modelled),
            "maps_mb": round(self.maps.nbytes / 2**20, 1),
        }
        return arrays, {"algorithm": self.name, "parameters": self._parameters, **sizes}

    @classmethod
    def from_artifact(cls, arrays: Mapping[str, NDArray[Any]], card: Card) -> Self:
        """Rebuild; the maps may stay on disk as memory maps."""
        try:
            model = cls(**card["parameters"])
        except (KeyError, TypeError, ValueError) as error:
            message = f"the card of a {cls.name} model lacks its parameters: {error}"
            raise ArtifactCorruptError(message) from error
        movie_ids = checked(arrays, "movie_ids", (None,))
        modelled = checked(arrays, "modelled", (None,))
        size, films = len(modelled), len(movie_ids)
        if size and (modelled.min() < 0 or modelled.max() >= films):
            message = "array 'modelled' names films that the vocabulary does not have"
            raise ArtifactCorruptError(message)
        prior = checked(arrays, "prior", (films,))
        prior_weights = checked(arrays, "prior_weights", (None,))
        maps = checked(arrays, "maps", (len(model._decays), size, size))
        model._set(movie_ids, modelled, prior, prior_weights, maps)
        return model


def _decays(time_scales: Sequence[float]) -> list[FloatArray]:
    """exp(-age / tau) for the ages 0, 1, ... at which it still counts, per time scale."""
    return [
        np.exp(-np.arange(np.ceil(-tau * np.log(SMALLEST_DECAY))) / tau).astype(np.float32)
        for tau in time_scales
    ]


def _prior_weights(
    shares: FloatArray, prior: FloatArray, maps: FloatArray, decays: Sequence[FloatArray]
) -> FloatArray:
    """The prior's weight for histories of 0, 1, ... films.

    An average film adds `shares @ map` times its decay; `alike` says how much prior that is.
    The places that a history lacks are filled with average films.
    """
    weights = np.zeros(max(map(len, decays)) + 1, np.float64)
    for decay, of_scale in zip(decays, maps, strict=True):
        alike = max(float(prior @ (shares @ of_scale)) / float(prior @ prior), 0.0)
        weights[: len(decay)] += alike * np.cumsum(decay[::-1], dtype=np.float64)[::-1]
    floored: FloatArray = np.maximum(weights, LEAST_PRIOR).astype(np.float32)
    return floored


def _normal_equations(
    histories: TrainingHistories,
    rows: IntArray,
    time_scales: Sequence[float],
    reversed_weight: float,
) -> tuple[FloatArray, FloatArray]:
    """Lower triangle of the Gram matrix [n, n], and the transposed cross matrix [films, n].

    n = time scales x modelled films. Every pair of films of one history at a distance adds its
    weight, summed in closed form over all later places: one pass per distance, no input matrix.
    """
    size, scales = int(rows.max()) + 1, len(time_scales)
    width = scales * size
    gram = np.zeros((width, width), np.float32)
    cross = np.zeros((size, width), np.float32)
    decays = _decays(time_scales)
    powers = np.zeros((scales, max(map(len, decays)) + 1), np.float32)
    for scale, decay in enumerate(decays):
        powers[scale, : len(decay)] = decay
    longest = int(np.diff(histories.indptr).max())
    sums = {
        (f, g): _later_sums(time_scales[f], time_scales[g], longest)
        for f, g in combinations_with_replacement(range(scales), 2)
    }
    for lag, later, earlier, after, before in _pairs(histories, rows, powers.shape[1]):
        for (f, g), table in sums.items():
            forward, backward = table[after], reversed_weight * table[before]
            here, there = powers[f, lag], powers[g, lag]
            if f == g:
                # Only the lower triangle is read; a film that meets itself counts both ways
                low, high = np.minimum(later, earlier), np.maximum(later, earlier)
                weight = (forward + backward) * here
                weight *= 1 + ((later == earlier) & (lag > 0))
                _add(gram, f * size + high, f * size + low, weight)
                continue
            _add(gram, g * size + earlier, f * size + later, forward * there + backward * here)
            if lag:
                _add(gram, g * size + later, f * size + earlier, forward * here + backward * there)
        for scale in range(scales if lag else 0):
            weight = powers[scale, lag - 1]
            if weight:
                _add(cross, later, scale * size + earlier, weight)
                _add(cross, earlier, scale * size + later, weight * reversed_weight)
    return gram, cross


def _add(matrix: FloatArray, row: IntArray, column: IntArray, weight: Any) -> None:
    np.add.at(matrix.reshape(-1), row * matrix.shape[1] + column, weight)


def _later_sums(first: float, second: float, longest: int) -> FloatArray:
    """Sum of exp(-j / first - j / second) over j = 0 ... n - 1, for n = 0 ... longest."""
    ratio = np.exp(-1 / first - 1 / second)
    table: FloatArray = ((1 - ratio ** np.arange(longest + 1)) / (1 - ratio)).astype(np.float32)
    return table


def _pairs(
    histories: TrainingHistories, rows: IntArray, lags: int
) -> Iterator[tuple[int, IntArray, IntArray, IntArray, IntArray]]:
    """Distance, rows of the later and the earlier film, places after the one, before the other.

    Pairs with a film that is not modelled are left out; its place still counts for distances.
    """
    indptr = histories.indptr
    start = 0
    while start < histories.user_count:
        stop = int(np.searchsorted(indptr, indptr[start] + _PLACES_AT_ONCE, side="right")) - 1
        stop = min(max(stop, start + 1), histories.user_count)
        items = rows[histories.items[indptr[start] : indptr[stop]]]
        lengths = np.diff(indptr[start : stop + 1])
        before = np.arange(len(items)) - np.repeat(indptr[start:stop] - indptr[start], lengths)
        after = np.repeat(lengths, lengths) - 1 - before
        places = np.flatnonzero(items >= 0)
        complete = len(places) == len(items)
        for lag in range(lags):
            places = places[before[places] >= lag]
            if not len(places):
                break
            known = places if complete else places[items[places - lag] >= 0]
            yield lag, items[known], items[known - lag], after[known], before[known - lag]
        start = stop
