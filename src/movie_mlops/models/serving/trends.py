"""What many people watch these days: viewers per film and day, for the last month."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.models.algorithms.base import IntArray

DAYS = 30
"""Days that are kept, the newest one included."""
MICROSECONDS_PER_DAY = 86_400_000_000


class DailyViewers:
    """How many people watched or liked a film on a day; one person counts once a day and film.

    Days are whole UTC days since 1970. What lies more than `DAYS` before the newest day that has
    been seen up to today is dropped, so memory is bounded by the films watched in a month.
    """

    def __init__(self, days: IntArray, movies: IntArray) -> None:
        """Start from one row per person, film and day."""
        self._days: dict[int, dict[int, int]] = {}
        for day in np.unique(days).tolist():
            films, counts = np.unique(movies[days == day], return_counts=True)
            self._days[day] = dict(zip(films.tolist(), counts.tolist(), strict=True))
        self.version = 0

    def add(self, day: int, movie_id: int, amount: int, today: int) -> None:
        """One viewer more (1), or less (-1) because the act was undone."""
        counts = self._days.get(day)
        if counts is None:
            newest = self.newest(today)
            if amount < 0 or (newest is not None and day <= newest - DAYS):
                return
            counts = self._days[day] = {}
            for old in [other for other in self._days if other <= min(day, today) - DAYS]:
                del self._days[old]
        counts[movie_id] = counts.get(movie_id, 0) + amount
        if counts[movie_id] <= 0:
            del counts[movie_id]
        self.version += 1

    def on(self, day: int) -> list[tuple[int, int]]:
        """Film ids and viewers of one day."""
        return list(self._days.get(day, {}).items())

    def mean_before(self, day: int, movie_id: int, days: int) -> float:
        """Viewers of a film per day, over the `days` days before this one."""
        before = range(day - days, day)
        return sum(self._days.get(each, {}).get(movie_id, 0) for each in before) / days

    def newest(self, today: int) -> int | None:
        """The last day up to today on which anybody watched anything."""
        days = list(self._days.items())
        return max((day for day, of in days if of and day <= today), default=None)

    def since(self, days: int, today: int) -> tuple[int | None, IntArray, IntArray]:
        """The newest day, and film ids and viewer days of the `days` days that end with it."""
        newest = self.newest(today)
        if newest is None:
            return None, np.empty(0, np.int64), np.empty(0, np.int64)
        total: dict[int, int] = {}
        for day in range(newest - days + 1, newest + 1):
            for movie_id, count in list(self._days.get(day, {}).items()):
                total[movie_id] = total.get(movie_id, 0) + count
        ids = np.fromiter(total, np.int64, len(total))
        return newest, ids, np.fromiter(total.values(), np.int64, len(total))


def recent_viewers(ends: Sequence[int], acts: Sequence[NDArray[Any]], today: int) -> DailyViewers:
    """The counts of a snapshot.

    `acts` are films, times in microseconds, positive; those of user u end at `ends[u]`.
    """
    movies, times, positive = acts[:3]
    known = positive & (times < (today + 1) * MICROSECONDS_PER_DAY)
    newest = int(times.max(where=known, initial=0)) // MICROSECONDS_PER_DAY
    chosen = np.flatnonzero(known & (times >= (newest - DAYS + 1) * MICROSECONDS_PER_DAY))
    users = np.searchsorted(np.asarray(ends, np.int64), chosen, side="right")
    days = times[chosen] // MICROSECONDS_PER_DAY
    # one number for user, day and film: rows of three would be compared byte by byte
    films, film = np.unique(movies[chosen], return_inverse=True)
    one = np.unique(((users * DAYS) + newest - days) * max(len(films), 1) + film)
    rest, film = np.divmod(one, max(len(films), 1))
    return DailyViewers(newest - rest % DAYS, films[film])
