"""Time-aware ridge regression from the films watched before to the next film.

The input at each place of a history is every earlier film, weighted by exp(-places ago / tau),
for two taus side by side; the output is the film at that place. Histories count reversed as
well, with a smaller weight. Everything is linear, so every score is a sum over watched films.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement
from typing import Any, ClassVar, Self

import numpy as np

from movie_mlops.models.algorithms.base import FloatArray, IntArray, TrainingHistories
from movie_mlops.models.algorithms.film_maps import DecayedMaps, decays
from movie_mlops.models.algorithms.popularity import interaction_shares

TARGET_OFFSET = 20.0
_PLACES_AT_ONCE = 65_536  # places whose temporaries stay in the processor's cache


class SequenceLinear(DecayedMaps):
    """One map [modelled films, modelled films] per time scale; see `DecayedMaps`."""

    name: ClassVar[str] = "sequence_linear"

    def __init__(
        self,
        time_scales: Sequence[float] = (4.0, 25.0),
        ridge: Sequence[float] = (500.0, 2000.0),
        reversed_weight: float = 0.3,
        target_power: float = -0.1,
        max_memory_mb: float = 256.0,
        training_memory_mb: float = 1_536.0,
    ) -> None:
        super().__init__(
            time_scales,
            {
                "time_scales": list(time_scales),
                "ridge": list(ridge),
                "reversed_weight": reversed_weight,
                "target_power": target_power,
                "max_memory_mb": max_memory_mb,
                "training_memory_mb": training_memory_mb,
            },
        )

    def _solved_bytes(self) -> int:
        """Gram matrix [scales x films]^2 and cross matrix [films, scales x films]."""
        scales = len(self._decays)
        return 4 * scales * (scales + 1)

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
        if not size:
            none = [np.empty((0, 0), np.float32)] * scales
            self._keep(histories.movie_ids, modelled, prior, shares, none)
            return self
        rows = np.full(len(counts), -1, np.int64)
        rows[modelled] = np.arange(size)
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
        del gram, factor, cross
        maps = [
            np.multiply(solved[scale * size : (scale + 1) * size], weight[modelled], order="C")
            for scale in range(scales)
        ]
        del solved
        self._keep(histories.movie_ids, modelled, prior, shares, maps)
        return self


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
    of_scales = decays(time_scales)
    powers = np.zeros((scales, max(map(len, of_scales)) + 1), np.float32)
    for scale, decay in enumerate(of_scales):
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
