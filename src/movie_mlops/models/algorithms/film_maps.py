"""Scores as decayed sums over watched films: maps from film to film, and a prior.

What `sequence_linear` and `ease` share; they differ in how the maps are fitted.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from movie_mlops.models.algorithms.artifacts import checked, checked_positions, reading_card
from movie_mlops.models.algorithms.base import Arrays, Card, FloatArray, IntArray
from movie_mlops.models.algorithms.film_map import FilmMap, pruned, rounded
from movie_mlops.models.algorithms.popularity import without
from movie_mlops.models.algorithms.recent_sums import RecentSums

SMALLEST_DECAY = 0.001
LONGEST_HISTORY = 4_096  # films that count where nothing decays
MIN_COUNT = 3  # a film with fewer interactions has the prior only
LEAST_PRIOR = 0.01  # keeps films that no map ranks in the order of popularity
LEAST_ENTRIES = 50  # per row of a pruned map; fewer films are modelled rather than fewer entries
PRIOR_TIME_SCALE = 25.0  # newcomers' prior fades so where nothing decays
RESERVED_MB = 256.0  # of the training memory: interpreter, libraries, histories
_ENTRY_BYTES = 8  # value and column; up to 65,536 films the column takes 2 of its 4


class DecayedMaps(ABC):
    """One map per time scale, and a prior for newcomers.

    Score of film j = sum over watched films i of sum over scales f of
    exp(-age of i / tau_f) maps[f][i, j], plus `baseline(history length)[j]`. The baseline is
    popularity, as heavy as what an average history would have added in the places that this one
    lacks: for newcomers it decides, after some forty films it is hardly there.

    The films with most interactions are modelled, as many as `training_memory_mb` can solve for;
    where their maps do not fit `max_memory_mb` they are rounded to 8 bits per entry; where that
    does not fit either, only the largest entries of each row are kept, as many as would fit with
    8 bytes each. Up to 65,536 films they take 6, so that such maps stay below the budget.
    The other films have the baseline only; the card says what was done.
    """

    name: ClassVar[str]

    def __init__(self, time_scales: Sequence[float | None], parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self._decays = decays(time_scales)
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
        maps: NDArray[np.float32 | np.int8],
        smaller: Mapping[str, NDArray[Any]] = MappingProxyType({}),
    ) -> None:
        # No memmap subclass: its bookkeeping costs more than a row
        self.movie_ids, self.modelled = movie_ids, np.asarray(modelled)
        self.prior, self.prior_weights = np.asarray(prior), np.asarray(prior_weights)
        self.maps = np.asarray(maps)
        self._smaller = {name: np.asarray(array) for name, array in smaller.items()}
        self._maps = [
            FilmMap(values, **{name: array[scale] for name, array in self._smaller.items()})
            for scale, values in enumerate(self.maps)
        ]
        stacked = {"values": self.maps, **self._smaller}
        for name, array in stacked.items():
            stacked[name] = array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])
        self._of_all_scales = FilmMap(**stacked)
        self._rows = np.full(len(movie_ids), -1, np.int64)
        self._places = self.modelled.astype(np.intp)  # what NumPy indexes with
        self._rows[self.modelled] = np.arange(len(self.modelled))
        self._all = len(self.modelled) == len(movie_ids)
        self._longest = max(map(len, self._decays))
        self._recent = RecentSums(self._maps, self._decays, self._rows, self.sums)

    def _most_watched(self, counts: IntArray) -> NDArray[np.int32]:
        """The films that can be modelled within both memories, as ascending positions."""
        training = max(self._parameters["training_memory_mb"] - RESERVED_MB, 16.0) * 2**20
        scales, served = len(self._decays), self._served_bytes()
        dense = (served / (4 * scales)) ** 0.5
        most = max(dense, served / (LEAST_ENTRIES * _ENTRY_BYTES * scales))
        most = min(most, (training / self._solved_bytes()) ** 0.5)
        chosen = np.argsort(-counts, kind="stable")[: int(most)]
        return np.sort(chosen[counts[chosen] >= MIN_COUNT]).astype(np.int32)

    @abstractmethod
    def _solved_bytes(self) -> int:
        """Bytes that training needs at its peak, per squared number of modelled films."""

    def _served_bytes(self) -> float:
        return float(self._parameters["max_memory_mb"]) * 2**20

    def _keep(
        self,
        movie_ids: IntArray,
        modelled: NDArray[np.int32],
        prior: FloatArray,
        shares: FloatArray,
        maps: list[FloatArray],
    ) -> None:
        """Take over fitted maps [n, n] (the list is emptied), made smaller where they must be."""
        size, scales = len(modelled), len(maps)
        entries = int(self._served_bytes() / (_ENTRY_BYTES * scales * max(size, 1)))
        smaller: Arrays = {}
        values: NDArray[np.float32 | np.int8]
        if 4 * scales * size * size > self._served_bytes() and entries < size:
            fits = scales * size * (size + 4) <= self._served_bytes()
            kept = [rounded(matrix) if fits else pruned(matrix, entries) for matrix in maps]
            values, more = (np.stack(part) for part in zip(*kept, strict=True))
            smaller = {"steps" if fits else "columns": more}
        else:
            values = np.stack(maps) if scales > 1 else maps[0][None]
            maps.clear()
        self._set(movie_ids, modelled, prior, np.ones(1, np.float32), values, smaller)
        self.prior_weights = self._fill_in(shares[modelled])

    def _fill_in(self, shares: FloatArray) -> FloatArray:
        """The prior's weight for histories of 0, 1, ... films.

        An average film adds `shares @ map` times its decay; `alike` says how much prior that is.
        The places that a history lacks are filled with average films.
        """
        prior, films = self.prior[self.modelled], np.arange(len(self.modelled))
        fades = [
            decay if len(decay) < LONGEST_HISTORY else decays([PRIOR_TIME_SCALE])[0]
            for decay in self._decays
        ]
        weights = np.zeros(max(map(len, fades)) + 1, np.float64)
        for decay, of_scale in zip(fades, self._maps, strict=True):
            added = of_scale.sums(films, shares)
            alike = max(float(prior @ added) / max(float(prior @ prior), 1e-30), 0.0)
            weights[: len(decay)] += alike * np.cumsum(decay[::-1], dtype=np.float64)[::-1]
        floored: FloatArray = np.maximum(weights, LEAST_PRIOR).astype(np.float32)
        return floored

    def baseline(self, length: int | IntArray) -> FloatArray:
        """What is there without the films of a history of this length: the weighted prior."""
        weight = self.prior_weights[np.minimum(length, len(self.prior_weights) - 1)]
        scores: FloatArray = np.multiply.outer(weight, self.prior)
        return scores

    def score(self, histories: Sequence[NDArray[np.integer[Any]]]) -> FloatArray:
        """Scores; a history gathers the rows of its films, or of its new ones; see RecentSums."""
        scores = self.baseline(np.array([len(history) for history in histories], np.int64))
        for place, history in enumerate(histories):
            # one history: somebody waits for it, and will come back with a film more
            sums = self._recent.of(history) if len(histories) == 1 else self.sums(history)
            row = scores[place]
            if self._all:
                for of_scale in sums:
                    row += of_scale
            else:
                added = sum(sums[1:], sums[0]) + row.take(self._places, mode="clip")
                row[self._places] = added
        return scores

    def sums(self, history: NDArray[np.integer[Any]]) -> Sequence[FloatArray]:
        """What each time scale adds for the modelled films, [modelled films] each."""
        return [
            of_map.sums(rows, weights)
            for of_map, (_, rows, weights) in zip(self._maps, self._weights(history), strict=True)
        ]

    def _weights(
        self, history: NDArray[np.integer[Any]]
    ) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
        """Per time scale: ages of the films that count, rows of its map, the weight of each.

        The ages of one are the first ages of every longer one.
        """
        latest = self._rows[np.asarray(history)[: -self._longest - 1 : -1]]
        ages = np.flatnonzero(latest >= 0)
        rows = latest[ages]
        for decay in self._decays:
            count = int(ages.searchsorted(len(decay)))
            yield ages[:count], rows[:count], decay[ages[:count]]

    def contributions(self, history: NDArray[np.integer[Any]], item: int) -> FloatArray:
        """Exact: their sum plus `baseline(len(history))[item]` is the score of the film."""
        row: FloatArray = self.contributions_of(history, np.array([item]))[0]
        return row

    def contributions_of(
        self, history: NDArray[np.integer[Any]], items: NDArray[np.integer[Any]]
    ) -> FloatArray:
        """The same for several films at once, shape [items, len(history)]."""
        columns = self._rows[items]
        modelled = np.flatnonzero(columns >= 0)
        ages, rows, weights = zip(*self._weights(history), strict=True)
        stacked = [each + scale * len(self.modelled) for scale, each in enumerate(rows)]
        entries = self._of_all_scales.entries(np.concatenate(stacked), columns[modelled])
        entries *= np.concatenate(weights)
        longest = max(ages, key=len)
        gave = np.zeros((len(modelled), len(longest)), np.float32)
        start = 0
        for of_scale in ages:
            gave[:, : len(of_scale)] += entries[:, start : start + len(of_scale)]
            start += len(of_scale)
        found = np.zeros((len(items), len(history)), np.float32)
        found[modelled[:, None], len(history) - 1 - longest] = gave
        return found

    def similar(self, item: int) -> FloatArray:
        """What the film leads to and what leads to it, in the long run, less popularity's part.

        Films that are not modelled come last, the popular ones first.
        """
        scores = self.prior / np.maximum(self.prior.max(), 1e-12)
        row = int(self._rows[item])
        if row >= 0:
            prior, longest = self.prior[self.modelled], self._maps[-1]
            alike = longest.row(row) + longest.entries(np.arange(len(prior)), np.array([row]))[0]
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
        arrays |= self._smaller
        nbytes = self.maps.nbytes + sum(array.nbytes for array in self._smaller.values())
        sizes = {
            "films": len(self.movie_ids),
            "modelled_films": len(self.modelled),
            "entries_per_film": self.maps.shape[2],
            "pruned": "columns" in self._smaller,
            "rounded": "steps" in self._smaller,
            "maps_mb": round(nbytes / 2**20, 1),
        }
        return arrays, {"algorithm": self.name, "parameters": self._parameters, **sizes}

    @classmethod
    def from_artifact(cls, arrays: Mapping[str, NDArray[Any]], card: Card) -> Self:
        """Rebuild; the maps may stay on disk as memory maps."""
        with reading_card(cls.name):
            model = cls(**card["parameters"])
            is_pruned, is_rounded = bool(card.get("pruned")), bool(card.get("rounded"))
        movie_ids = checked(arrays, "movie_ids", (None,))
        films, scales = len(movie_ids), len(model._decays)
        modelled = checked_positions(arrays, "modelled", (None,), films)
        size = len(modelled)
        prior = checked(arrays, "prior", (films,))
        prior_weights = checked(arrays, "prior_weights", (None,))
        maps = checked(arrays, "maps", (scales, size, None if is_pruned else size))
        smaller: Arrays = {}
        if is_pruned:
            smaller["columns"] = checked_positions(arrays, "columns", maps.shape, size)
        if is_rounded:
            smaller["steps"] = checked(arrays, "steps", (scales, size))
        model._set(movie_ids, modelled, prior, prior_weights, maps, smaller)
        return model


def decays(time_scales: Sequence[float | None]) -> list[FloatArray]:
    """exp(-age / tau) for the ages 0, 1, ... at which it still counts; None: never fades."""
    return [
        np.ones(LONGEST_HISTORY, np.float32)
        if tau is None
        else np.exp(-np.arange(np.ceil(-tau * np.log(SMALLEST_DECAY))) / tau).astype(np.float32)
        for tau in time_scales
    ]
