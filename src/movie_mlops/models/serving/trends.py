"""What many people watch these days: viewers per film and day, for the last month."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.models.algorithms.base import IntArray

DAYS = 30
"""Days that are kept, the newest one included."""
MICROSECONDS_PER_DAY = 86_400_000_000
_ACTS_AT_ONCE = 1 << 16  # of many users; what is made of them on the way stays small


class DailyViewers:
    """How many people watched or liked a film on a day; one person counts once a day and film.

    Days are whole UTC days since 1970. What lies more than `DAYS` before the newest day that has
    been seen up to today is dropped, so memory is bounded by the films watched in a month.
    """

    def __init__(self, days: IntArray, movies: IntArray) -> None:
        """Start from one row per person, film and day."""
        self._days: dict[int, dict[int, int]] = {}
        self.take(days, movies)
        self.version = 0

    def take(self, days: IntArray, movies: IntArray) -> None:
        """More people, one row per person, film and day; before the first `add`."""
        for day in np.unique(days).tolist():
            counts = self._days.setdefault(day, {})
            found = np.unique(movies[days == day], return_counts=True)
            for film, count in zip(*(column.tolist() for column in found), strict=True):
                counts[film] = counts.get(film, 0) + count

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
    known = (today + 1) * MICROSECONDS_PER_DAY  # what lies behind is still to come
    bounds, none = np.asarray(ends, np.int64), np.empty(0, np.int64)
    newest, viewers = 0, DailyViewers(none, none)
    for span, _ in _parts(bounds):
        times, positive = acts[1][span], acts[2][span]
        newest = max(newest, int(times.max(where=positive & (times < known), initial=0)))
    for span, ends_there in _parts(bounds):
        some = [column[span] for column in acts[:3]]
        viewers.take(*_watched(some, ends_there, newest // MICROSECONDS_PER_DAY))
    return viewers


def _parts(ends: IntArray) -> Iterator[tuple[slice, IntArray]]:
    """Where the acts of some whole users stand, and where in there each one's end."""
    user, start = 0, 0
    while user < len(ends):
        fit = int(np.searchsorted(ends, start + _ACTS_AT_ONCE, side="right"))
        behind = max(fit, user + 1)
        stop = int(ends[behind - 1])
        yield slice(start, stop), ends[user:behind] - start
        user, start = behind, stop


def _watched(
    acts: Sequence[NDArray[Any]], ends: IntArray, newest: int
) -> tuple[IntArray, IntArray]:
    """Days and films of the `DAYS` days that end with `newest`, one row per user, film and day."""
    movies, times, positive = acts
    first, behind = ((newest + add) * MICROSECONDS_PER_DAY for add in (1 - DAYS, 1))
    chosen = np.flatnonzero(positive & (times >= first) & (times < behind))
    users = np.searchsorted(ends, chosen, side="right")
    days = times[chosen] // MICROSECONDS_PER_DAY
    # one number for user, day and film: rows of three would be compared byte by byte
    films, film = np.unique(movies[chosen], return_inverse=True)
    one = np.sort(((users * DAYS) + newest - days) * max(len(films), 1) + film)
    one = one[np.flatnonzero(np.diff(one, prepend=-1))]  # NumPy's own unique hashes: far slower
    rest, film = np.divmod(one, max(len(films), 1))
    return newest - rest % DAYS, films[film]
