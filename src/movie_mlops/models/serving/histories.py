"""Who saw what: the latest films of every user, in memory, kept from the event log."""

import threading
import time
from collections.abc import Iterable, Mapping, Set
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
from movie_mlops.events.base import Place, Position, partition_of
from movie_mlops.events.schemas import TOPICS, USER_EVENTS
from movie_mlops.models.algorithms.base import Arrays, Card
from movie_mlops.models.serving.history_arrays import (
    ACT_COLUMNS,
    ARRAYS,
    SnapshotHistories,
    acts_by_film,
    flat_arrays,
    flatten,
    token_of,
)
from movie_mlops.models.serving.history_users import Act, User, UserHistory
from movie_mlops.models.serving.trends import MICROSECONDS_PER_DAY, recent_viewers

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_UNDO = InteractionType.UNDO  # looked up once: that costs more than the comparison
_KEPT_VIEWS = 5_000
_ACTS_PER_FILM = 4  # single acts kept for undo, as a multiple of the history's length


class Histories:
    """Latest films per user; events may arrive twice and out of order. Safe for threads."""

    def __init__(self, length: int, arrays: Mapping[str, NDArray[Any]] | None = None) -> None:
        self.length = length
        self._base = SnapshotHistories(
            arrays if arrays is not None else flat_arrays((), (), dict.fromkeys(ACT_COLUMNS, ()))
        )
        self.trends = recent_viewers(self._base.ends, self._base.acts, _today())
        self._users: dict[str, User] = {}
        self._views: dict[str, UserHistory] = {}  # of some of them, as they are now
        self._new_users = 0  # of them, those whom the snapshot does not know
        self._lock = threading.Lock()
        self._clock = 0
        self._base_stamp = 0
        self._reached: dict[tuple[str, int], int] = {}  # by `Place`; a slice is made faster
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
        return len(self._base.rows) + self._new_users

    @property
    def reached(self) -> dict[Place, int]:
        """Everything before these offsets is in here."""
        with self._lock:
            return {Place(*place): offset for place, offset in self._reached.items()}

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
            view = self._views.get(user_id)
            if view is None:
                if len(self._views) >= _KEPT_VIEWS:
                    self._views.clear()
                view = self._views[user_id] = self._view(user, user.stamp)
            return view

    def without(self, user_id: str, films: Set[int]) -> UserHistory:
        """As if these films had not been liked or watched; what is hidden stays hidden."""
        with self._lock:
            user = self._users.get(user_id) or User(self._base, user_id)
            return self._view(user, user.stamp, films)

    def apply(
        self, interaction: Interaction, position: Position | None = None, *, in_order: bool = False
    ) -> None:
        """Take one event in; the same event again changes nothing.

        `in_order`: the caller takes every event of the log, and calls `advance` soon.
        """
        with self._lock:
            user = self._apply(interaction)
            if position is None:
                return
            offset = position.offset
            if not in_order and offset >= self._reached.get(position[:2], 0):
                self._ahead[position] = interaction
            if user is not None and offset >= user.reached:
                user.reached = offset + 1

    def position_of(self, user_id: str) -> str:
        """The place of the log up to which the user's history goes, as `user-events:2:17`."""
        place = Place(USER_EVENTS, partition_of(user_id, TOPICS[USER_EVENTS]))
        user = self._users.get(user_id)
        own = user.reached if user is not None else 0
        return str(Position(*place, max(self._reached.get(place, 0), own)))

    def advance(self, position: Position) -> None:
        """Note that everything up to and with this position was applied."""
        self.advance_all((position,))

    def advance_all(self, positions: Iterable[Position]) -> None:
        """As `advance` for each, the lock taken once."""
        with self._lock:
            for position in positions:
                place, end = position[:2], position.offset + 1
                self._reached[place] = max(self._reached.get(place, 0), end)
            for position in [each for each in self._ahead if self._is_behind(each)]:
                del self._ahead[position]

    def pass_own(self) -> dict[Place, int]:
        """Note that what this process took itself was applied, as far as nothing else is between.

        Returns:
            Where that brought it: the offset behind the last such event, per partition.
        """
        passed: dict[Place, int] = {}
        with self._lock:
            for place in {position[:2] for position in self._ahead}:
                start = end = self._reached.get(place, 0)
                while self._ahead.pop(Position(*place, end), None) is not None:
                    end += 1
                if end > start:
                    self._reached[place] = passed[Place(*place)] = end
        return passed

    def has_applied(self, position: Position) -> bool:
        """Whether the event at this position is in here."""
        return self._is_behind(position) or position in self._ahead

    def rebase(self, fresh: "Histories") -> None:
        """Become `fresh`, which has replayed the log as far as this one followed it.

        Events that this process took before the follower came to them are applied again.
        """
        with self._lock:
            self._base, self._users = fresh._base, fresh._users  # noqa: SLF001 (same class)
            self._new_users = fresh._new_users  # noqa: SLF001 (same class)
            self.trends = fresh.trends
            for place, offset in fresh._reached.items():  # noqa: SLF001 (same class)
                self._reached[place] = max(offset, self._reached.get(place, 0))
            self._clock += 1
            self._base_stamp = self._clock
            for user in self._users.values():
                self._clock += 1
                user.stamp = self._clock
            self._views.clear()
            for interaction in self._ahead.values():
                self._apply(interaction)

    def _is_behind(self, position: Position) -> bool:
        return position.offset < self._reached.get(position[:2], 0)

    def _apply(self, interaction: Interaction) -> User | None:
        """Take it in; the user, where he is known by now."""
        kind = interaction.interaction_type
        is_undo = kind is _UNDO
        user = self._users.get(interaction.user_id)
        if not is_undo and not hides_film(kind):
            return user
        if user is None:
            user = self._users[interaction.user_id] = User(self._base, interaction.user_id)
            self._new_users += interaction.user_id not in self._base.rows
            user.stamp = self._base_stamp
        bound = _ACTS_PER_FILM * self.length
        act: Act | None
        if is_undo:
            act = user.undo(token_of(interaction.target_event_id or ""), bound)
            if act is not None and _is_alone(user, act):
                self._count(act, -1)
        else:
            at = (interaction.timestamp - _EPOCH) // _MICROSECOND
            act = Act(interaction.movie_id, at, is_positive(kind, interaction.rating))
            is_first = _is_alone(user, act)
            if not user.add(token_of(interaction.event_id), act, bound):
                return user
            if is_first:
                self._count(act, 1)
        if act is not None:
            self._clock += 1
            user.stamp = self._clock
            self._views.pop(interaction.user_id, None)
        return user

    def _count(self, act: Act, amount: int) -> None:
        self.trends.add(act.time // MICROSECONDS_PER_DAY, act.movie, amount, _today())

    def _of_snapshot(self, user_id: str) -> UserHistory:
        span = self._base.span(user_id)
        all_movies, times, positive, tokens = self._base.acts
        if tokens[span].any():  # single acts: a film may stand there more than once
            return self._view(User(self._base, user_id), self._base_stamp)
        movies, trains, at = all_movies[span], positive[span], times[span]
        if trains.all() and len(movies) <= self.length:
            return UserHistory(movies, movies, self._base_stamp, at)
        latest, at = movies[trains][-self.length :], at[trains][-self.length :]
        return UserHistory(latest, movies, self._base_stamp, at)

    def _view(self, user: User, stamp: int, left_out: Set[int] = frozenset()) -> UserHistory:
        films: dict[int, int] = {}
        hidden: dict[int, None] = {}
        for _, act in user.all_acts():
            hidden[act.movie] = None
            if act.positive and act.movie not in left_out:
                films.pop(act.movie, None)
                films[act.movie] = act.time
        latest = np.fromiter(films, np.int64, len(films))[-self.length :]
        at = np.fromiter(films.values(), np.int64, len(films))[-self.length :]
        return UserHistory(latest, np.fromiter(hidden, np.int64, len(hidden)), stamp, at)

    def _merged(self) -> Arrays:
        names = [*self._base.rows, *(name for name in self._users if name not in self._base.rows)]
        rows: list[tuple[int, int, bool, int]] = []
        ends: list[int] = []
        for name in names:
            user = self._users.get(name) or User(self._base, name)
            rows += user.rows()
            ends.append(len(rows))
        columns = zip(*rows, strict=True) if rows else ((),) * len(ACT_COLUMNS)
        acts = dict(zip(ACT_COLUMNS, columns, strict=True))
        return flat_arrays(names, ends, acts)


def _is_alone(user: User, act: Act) -> bool:
    """Whether it makes its user a viewer of the day: no other act does, before or after it."""
    return act.positive and not user.has_watched(act.movie, act.time // MICROSECONDS_PER_DAY)


def _today() -> int:
    return int(time.time()) // 86_400
