"""Who saw what: the latest films of every user, in memory, kept from the event log."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from movie_mlops.domain.errors import ArtifactCorruptError
from movie_mlops.domain.interactions import (
    Interaction,
    InteractionType,
    hides_film,
    is_positive,
)
from movie_mlops.events.base import Place, Position
from movie_mlops.models.algorithms.base import Arrays, Card, IntArray
from movie_mlops.models.serving.history_arrays import (
    ACT_COLUMNS,
    ARRAYS,
    SnapshotHistories,
    acts_by_film,
    flat_arrays,
    flatten,
    token_of,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ACTS_PER_FILM = 4  # single acts kept for undo, as a multiple of the history's length


@dataclass(frozen=True, slots=True)
class UserHistory:
    """What serving knows of one user; ids are film ids.

    `films` are the latest liked or watched ones, oldest first, each once; `hidden` are all that
    must not be recommended. Two histories with one `stamp` are the same.
    """

    films: IntArray
    hidden: IntArray
    stamp: int


@dataclass(frozen=True, slots=True)
class _Act:
    movie: int
    time: int
    positive: bool


class _User:
    """One user who did something since the snapshot."""

    def __init__(self, base: SnapshotHistories, user_id: str) -> None:
        self.settled: dict[int, _Act] = {}  # by film; can no longer be undone
        self.acts: dict[int, _Act] = {}  # by token of the event id
        self.undone: dict[int, None] = {}
        self.view: UserHistory | None = None
        self.stamp = 0
        span = base.span(user_id)
        columns = (column[span].tolist() for column in base.acts)
        for movie, time, positive, token in zip(*columns, strict=True):
            act = _Act(movie, time, positive)
            if token:
                self.acts[token] = act
            else:
                self._settle(act)

    def add(self, token: int, act: _Act, bound: int) -> bool:
        if token in self.acts or token in self.undone:
            return False
        self.acts[token] = act
        if len(self.acts) > bound:  # one user's million events must not grow without end
            for old in list(self.acts)[: bound // 2]:
                self._settle(self.acts.pop(old))
        return True

    def undo(self, token: int, bound: int) -> bool:
        self.undone[token] = None  # kept for a target that arrives after its undo
        if len(self.undone) > bound:
            del self.undone[next(iter(self.undone))]
        return self.acts.pop(token, None) is not None

    def all_acts(self) -> list[tuple[int, _Act]]:
        """(token or 0, act) in order of time; of one time, in order of arrival."""
        pairs = [(0, act) for act in self.settled.values()]
        return sorted([*pairs, *self.acts.items()], key=lambda pair: pair[1].time)

    def _settle(self, act: _Act) -> None:
        old = self.settled.pop(act.movie, None)
        if old is not None and old.positive and (not act.positive or old.time > act.time):
            act = old
        self.settled[act.movie] = act


class Histories:
    """Latest films per user; events may arrive twice and out of order. Safe for threads."""

    def __init__(self, length: int, arrays: Mapping[str, NDArray[Any]] | None = None) -> None:
        self.length = length
        self._base = SnapshotHistories(
            arrays if arrays is not None else flat_arrays((), (), dict.fromkeys(ACT_COLUMNS, ()))
        )
        self._users: dict[str, _User] = {}
        self._lock = threading.Lock()
        self._clock = 0
        self._base_stamp = 0
        self._reached: dict[Place, int] = {}
        self._ahead: dict[Position, Interaction] = {}

    @classmethod
    def from_frame(cls, interactions: pl.DataFrame, length: int) -> Self:
        """Histories of an interactions table; acts of one film become one.

        Rows with a value in the column `event_id`, where there is one, stay single acts: a later
        undo finds them, and their events may come again.
        """
        return cls(length, flatten(acts_by_film(interactions)))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], card: Card, length: int) -> Self:
        """What `to_arrays` gave; the arrays may be read-only memory maps.

        Raises:
            ArtifactCorruptError: an array is missing or of another type, or lengths disagree.
        """
        try:
            for name, dtype in ARRAYS.items():
                if arrays[name].dtype != np.dtype(dtype) or arrays[name].ndim != 1:
                    message = f"histories: array {name} is not a row of {dtype}"
                    raise ArtifactCorruptError(message)
            ends = arrays["ends"]
            sizes = {len(arrays[name]) for name in ACT_COLUMNS}
            if sizes != {int(ends[-1]) if len(ends) else 0} or len(ends) != len(
                arrays["user_ends"]
            ):
                message = "histories: the lengths of the arrays disagree"
                raise ArtifactCorruptError(message)
            made = cls(length, arrays)
            for text, offset in card["positions"].items():
                topic, _, partition = text.rpartition(":")
                made._reached[Place(topic, int(partition))] = int(offset)
        except (KeyError, ValueError, AttributeError) as error:
            message = f"histories cannot be read: {error!r}"
            raise ArtifactCorruptError(message) from error
        return made

    def to_arrays(self) -> tuple[Arrays, Card]:
        """Everything as flat arrays, and a card with the log positions that they stand for."""
        with self._lock:
            arrays = self._merged() if self._users else dict(self._base.arrays)
            positions = {f"{topic}:{part}": at for (topic, part), at in self._reached.items()}
        return arrays, {"kind": "histories", "users": len(arrays["ends"]), "positions": positions}

    @property
    def user_count(self) -> int:
        """Users with at least one act in the snapshot or since."""
        return len(self._base.rows.keys() | self._users.keys())

    @property
    def reached(self) -> dict[Place, int]:
        """Everything before these offsets is in here."""
        with self._lock:
            return dict(self._reached)

    def some_users(self, count: int) -> list[str]:
        """The first users of the snapshot."""
        return list(self._base.rows)[:count]

    def stamp_of(self, user_id: str) -> int:
        """Changes whenever the user's history does."""
        user = self._users.get(user_id)
        return user.stamp if user is not None else self._base_stamp

    def of(self, user_id: str) -> UserHistory:
        """The user's history; empty for somebody never seen."""
        with self._lock:
            user = self._users.get(user_id)
            if user is None:
                return self._of_snapshot(user_id)
            if user.view is None:
                user.view = self._view(user, user.stamp)
            return user.view

    def apply(self, interaction: Interaction, position: Position | None = None) -> None:
        """Take one event in; the same event again changes nothing."""
        with self._lock:
            if position is not None and position.offset >= self._reached.get(_place(position), 0):
                self._ahead[position] = interaction
            self._apply(interaction)

    def advance(self, position: Position) -> None:
        """Note that everything up to and with this position was applied."""
        with self._lock:
            place = _place(position)
            self._reached[place] = max(self._reached.get(place, 0), position.offset + 1)
            self._ahead.pop(position, None)

    def has_applied(self, position: Position) -> bool:
        """Whether the event at this position is in here."""
        return position in self._ahead or position.offset < self._reached.get(_place(position), 0)

    def rebase(self, fresh: "Histories") -> None:
        """Become `fresh`, which has replayed the log as far as this one followed it.

        Events that this process took before the follower came to them are applied again.
        """
        with self._lock:
            self._base, self._users = fresh._base, fresh._users  # noqa: SLF001 (same class)
            for place, offset in fresh._reached.items():  # noqa: SLF001 (same class)
                self._reached[place] = max(offset, self._reached.get(place, 0))
            self._clock += 1
            self._base_stamp = self._clock
            for user in self._users.values():
                self._clock += 1
                user.stamp, user.view = self._clock, None
            for interaction in self._ahead.values():
                self._apply(interaction)

    def _apply(self, interaction: Interaction) -> None:
        kind = interaction.interaction_type
        if kind is not InteractionType.UNDO and not hides_film(kind):
            return
        user = self._users.get(interaction.user_id)
        if user is None:
            user = self._users[interaction.user_id] = _User(self._base, interaction.user_id)
            user.stamp = self._base_stamp
        bound = _ACTS_PER_FILM * self.length
        if kind is InteractionType.UNDO:
            changed = user.undo(token_of(interaction.target_event_id or ""), bound)
        else:
            time = (interaction.timestamp - _EPOCH) // _MICROSECOND
            act = _Act(interaction.movie_id, time, is_positive(kind, interaction.rating))
            changed = user.add(token_of(interaction.event_id), act, bound)
        if changed:
            self._clock += 1
            user.stamp, user.view = self._clock, None

    def _of_snapshot(self, user_id: str) -> UserHistory:
        span = self._base.span(user_id)
        all_movies, _, positive, tokens = self._base.acts
        if tokens[span].any():  # single acts: a film may stand there more than once
            return self._view(_User(self._base, user_id), self._base_stamp)
        movies = all_movies[span]
        return UserHistory(movies[positive[span]][-self.length :], movies, self._base_stamp)

    def _view(self, user: _User, stamp: int) -> UserHistory:
        films: dict[int, None] = {}
        hidden: dict[int, None] = {}
        for _, act in user.all_acts():
            hidden[act.movie] = None
            if act.positive:
                films.pop(act.movie, None)
                films[act.movie] = None
        latest = np.fromiter(films, np.int64, len(films))[-self.length :]
        return UserHistory(latest, np.fromiter(hidden, np.int64, len(hidden)), stamp)

    def _merged(self) -> Arrays:
        names = [*self._base.rows, *(name for name in self._users if name not in self._base.rows)]
        rows: list[tuple[int, int, bool, int]] = []
        ends: list[int] = []
        for name in names:
            user = self._users.get(name) or _User(self._base, name)
            rows += [(act.movie, act.time, act.positive, token) for token, act in user.all_acts()]
            ends.append(len(rows))
        columns = zip(*rows, strict=True) if rows else ((),) * len(ACT_COLUMNS)
        acts = dict(zip(ACT_COLUMNS, columns, strict=True))
        return flat_arrays(names, ends, acts)


def _place(position: Position) -> Place:
    return Place(position.topic, position.partition)
