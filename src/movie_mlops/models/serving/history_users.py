"""One user's acts since the snapshot: single ones that may be undone, and settled ones."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from movie_mlops.models.algorithms.base import IntArray
from movie_mlops.models.serving.history_arrays import SnapshotHistories
from movie_mlops.models.serving.trends import MICROSECONDS_PER_DAY

UNDONE = -1
"""In place of a film: the row holds an event that was undone, maybe before it came."""
_BITS = 256  # 64 bytes per user


@dataclass(frozen=True, slots=True)
class UserHistory:
    """What serving knows of one user; ids are film ids.

    `films` are the latest liked or watched ones, oldest first, each once, and `times` when
    (microseconds since 1970); `hidden` are all that must not be recommended. Two histories with
    one `stamp` are the same.
    """

    films: IntArray
    hidden: IntArray
    stamp: int
    times: IntArray


class Act(NamedTuple):  # made by the dozen when a user comes back: a tuple is made fastest
    """One film hidden at a time (microseconds since 1970), liked or watched when positive."""

    movie: int
    time: int
    positive: bool


class User:
    """One user who did something since the snapshot."""

    __slots__ = ("_base", "_bits", "_span", "acts", "reached", "settled", "stamp", "undone")

    def __init__(self, base: SnapshotHistories, user_id: str) -> None:
        self.settled: dict[int, Act] = {}  # by film, over the base; can no longer be undone
        self.acts: dict[int, Act] = {}  # by token of the event id
        self.undone: dict[int, None] = {}
        self._bits = 0  # of each film in `acts` one is set; what they leave out is not searched
        self.stamp = 0
        self.reached = 0  # the offset behind the last event that this process took itself
        self._base, self._span = base, base.span(user_id)
        tokens = base.acts[-1][self._span]
        if not np.count_nonzero(tokens):
            return  # each film stands there once: it is read from there when needed
        acts = self._of_base()
        self._span = slice(0, 0)
        for act, token in zip(acts, tokens.tolist(), strict=True):
            if act.movie == UNDONE:
                self.undone[token] = None
            elif token:
                self._note(token, act)
            else:
                self._settle(act)

    def add(self, token: int, act: Act, bound: int) -> bool:
        """Take an act in; whether it was new. More than `bound` single acts: old ones settle."""
        if token in self.acts or token in self.undone:
            return False
        self._note(token, act)
        if len(self.acts) > bound:  # one user's million events must not grow without end
            for old in list(self.acts)[: bound // 2]:
                self._settle(self.acts.pop(old))
        return True

    def undo(self, token: int, bound: int) -> Act | None:
        """Take the act away and return it; None where there is none yet, or none any more."""
        self.undone[token] = None  # kept for a target that arrives after its undo
        if len(self.undone) > bound:
            del self.undone[next(iter(self.undone))]
        return self.acts.pop(token, None)

    def has_watched(self, movie: int, day: int) -> bool:
        """Whether there is a positive act with this film on this day (days since 1970)."""
        first = day * MICROSECONDS_PER_DAY
        behind = first + MICROSECONDS_PER_DAY
        if self._bits & _bit(movie):
            for film, time, positive in self.acts.values():
                if film == movie and positive and first <= time < behind:
                    return True
        if not self.settled and first > self._base.newest:
            return False
        old = self._settled(movie)
        return old is not None and old.positive and first <= old.time < behind

    def all_acts(self) -> list[tuple[int, Act]]:
        """(token or 0, act) in order of time; of one time, in order of arrival."""
        pairs = [(0, act) for act in self._of_base() if act.movie not in self.settled]
        pairs += [(0, act) for act in self.settled.values()]
        return sorted([*pairs, *self.acts.items()], key=lambda pair: pair[1].time)

    def rows(self) -> list[tuple[int, int, bool, int]]:
        """Everything that a restart must know, in the columns of the snapshot's arrays."""
        undone = [(UNDONE, 0, False, token) for token in self.undone]
        return undone + [(*act, token) for token, act in self.all_acts()]

    def _note(self, token: int, act: Act) -> None:
        self.acts[token] = act
        self._bits |= _bit(act.movie)

    def _settled(self, movie: int) -> Act | None:
        found = self.settled.get(movie)
        if found is not None:
            return found
        columns = [column[self._span] for column in self._base.acts[:-1]]
        for at in np.flatnonzero(columns[0] == movie).tolist():
            return Act(*(column[at].item() for column in columns))
        return None

    def _of_base(self) -> list[Act]:
        columns = (column[self._span].tolist() for column in self._base.acts[:-1])
        return list(map(Act, *columns))

    def _settle(self, act: Act) -> None:
        old = self._settled(act.movie)
        self.settled.pop(act.movie, None)  # so that it stands last
        if old is not None and old.positive and (not act.positive or old.time > act.time):
            act = old
        self.settled[act.movie] = act


def _bit(movie: int) -> int:
    return 1 << movie % _BITS
