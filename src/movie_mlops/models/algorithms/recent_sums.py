"""Decayed sums of the latest histories: with one film more, a sum is the old one and one row.

Exponential decay makes a score a recurrence: sum <- exp(-1 / tau) * sum + row of the new film,
less the row of the film that is now too old to count.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.models.algorithms.base import FloatArray, IntArray
from movie_mlops.models.algorithms.film_map import FilmMap

MOST_HISTORIES = 128
MOST_BYTES = 16_000_000
MOST_NEW = 4  # films since the kept history
MOST_STEPS = 64  # then the sums are made anew: rounding must not add up where nothing fades
History = NDArray[np.integer[Any]]


class RecentSums:
    """Keeps the sums per time scale of the histories asked about last. Safe for threads.

    They are found by what the history says, not by whose it is: a film undone, left out or come
    late makes another history, which is summed anew. `in_full` does that.
    """

    def __init__(
        self,
        maps: Sequence[FilmMap],
        decays: Sequence[FloatArray],
        rows: IntArray,
        in_full: Callable[[History], Sequence[FloatArray]],
    ) -> None:
        self._maps, self._decays, self._rows, self._in_full = maps, decays, rows, in_full
        self._longest = max(map(len, decays))
        each = max(4 * sum(len(of.values) for of in maps), 1)
        self._most = min(MOST_HISTORIES, MOST_BYTES // each)
        self._kept: OrderedDict[bytes, tuple[int, Sequence[FloatArray]]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, history: History) -> Sequence[FloatArray]:
        """The sums of `history` (positions, oldest first), one per time scale; not to be changed.

        Equal to the full ones but for rounding.
        """
        films = np.asarray(history, np.int64)[-self._longest - MOST_NEW :]
        for new in range(min(MOST_NEW, len(films)) + 1):
            key = self._key(films[: len(films) - new])
            with self._lock:
                found = self._kept.pop(key, None) if new else self._kept.get(key)
            if found is not None and found[0] + new <= MOST_STEPS:
                break
        else:
            found, new = (0, self._in_full(history)), 0
        steps, sums = found
        for end in range(len(films) - new, len(films)):
            sums = [
                self._with_next(scale, of_scale, films[: end + 1])
                for scale, of_scale in enumerate(sums)
            ]
        self._keep(films, steps + new, sums)
        return sums

    def _with_next(self, scale: int, sums: FloatArray, films: IntArray) -> FloatArray:
        """The sums with the last of `films` more."""
        decay, of_map = self._decays[scale], self._maps[scale]
        made: FloatArray = sums * decay[1] if len(decay) > 1 else np.zeros_like(sums)
        row = int(self._rows[films[-1]])
        if row >= 0:
            of_map.add(made, row, float(decay[0]))
        if len(films) > len(decay) > 1:
            row = int(self._rows[films[-len(decay) - 1]])
            if row >= 0:
                of_map.add(made, row, -float(decay[-1] * decay[1]))
        return made

    def _key(self, films: IntArray) -> bytes:
        return films[-self._longest :].tobytes()

    def _keep(self, films: IntArray, steps: int, sums: Sequence[FloatArray]) -> None:
        key = self._key(films)
        with self._lock:
            self._kept[key] = (steps, sums)
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
