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
_KEYS_AT_ONCE = 1 << 18  # counts that wait to be added up


class DailyViewers:
    """How many people watched or liked a film on a day; one person counts once a day and film.

    Days are whole UTC days since 1970. What lies more than `DAYS` before the newest day that has
    been seen up to today is dropped, so memory is bounded by the films watched in a month.
    """

    def __init__(self, days: IntArray, movies: IntArray, viewers: IntArray) -> None:
        """Start from one row per film and day."""
        self._days: dict[int, dict[int, int]] = {}
        for day in np.unique(days).tolist():
            here = days == day
            found = zip(movies[here].tolist(), viewers[here].tolist(), strict=True)
            self._days[day] = dict(found)
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
    known = (today + 1) * MICROSECONDS_PER_DAY  # what lies behind is still to come
    bounds, none = np.asarray(ends, np.int64), np.empty(0, np.int64)
    newest = 0
    for span, _ in _parts(bounds):
        times, positive = acts[1][span], acts[2][span]
        newest = max(newest, int(times.max(where=positive & (times < known), initial=0)))
    last = newest // MICROSECONDS_PER_DAY
    found, waiting = (none, none), list[tuple[IntArray, IntArray]]()
    for span, ends_there in _parts(bounds):
        waiting.append(_watched([column[span] for column in acts[:3]], ends_there, last))
        # seldom where many are counted already: each is put in order again
        if sum(len(keys) for keys, _ in waiting) > max(_KEYS_AT_ONCE, len(found[0])):
            found, waiting = _together([found, *waiting]), []
    keys, viewers = _together([found, *waiting])
    movies, ago = np.divmod(keys, DAYS)
    return DailyViewers(last - ago, movies, viewers)


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
    """Keys and viewers of the `DAYS` days that end with `newest`; a key is a film and a day."""
    movies, times, positive = acts
    first, behind = ((newest + add) * MICROSECONDS_PER_DAY for add in (1 - DAYS, 1))
    chosen = np.flatnonzero(positive & (times >= first) & (times < behind))
    users = np.searchsorted(ends, chosen, side="right")
    keys = movies[chosen] * DAYS + (newest - times[chosen] // MICROSECONDS_PER_DAY)
    known = None
    if keys.max(initial=0) >= np.iinfo(np.int64).max // (len(ends) + 1):
        known, keys = np.unique(keys, return_inverse=True)  # ids so large that no user fits beside
    width = int(keys.max(initial=0)) + 1
    one = np.sort(users * width + keys)  # to sort numbers is far cheaper than to sort places
    keys = np.sort(one[np.flatnonzero(np.diff(one, prepend=-1))] % width)
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    found = keys[starts] if known is None else known[keys[starts]]
    return found, np.diff(starts, append=len(keys))


def _together(parts: Sequence[tuple[IntArray, IntArray]]) -> tuple[IntArray, IntArray]:
    """The keys of all parts, each once, and their viewers."""
    keys, viewers = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[starts], np.add.reduceat(viewers[order], starts)
