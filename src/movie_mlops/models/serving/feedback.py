"""Acts that name the answer they follow, read from the event log without a group."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from movie_mlops.domain.errors import UnknownEventError
from movie_mlops.domain.interactions import InteractionType
from movie_mlops.events import EventLog
from movie_mlops.events.base import Place, Record
from movie_mlops.events.schemas import USER_EVENTS, UserInteractionEvent, decode

_BATCH = 5_000


class Act(NamedTuple):
    """What a viewer did after an answer; times are milliseconds since 1970."""

    user_id: str
    movie_id: int
    kind: InteractionType
    rating: float | None
    at_ms: int
    arrived_ms: int
    event_id: str


class Outcomes:
    """Acts that name the request they follow; each `read` takes in only what is new."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._next: dict[Place, int] = {}
        self._acts: dict[str, list[Act]] = {}
        self._undone: set[str] = set()

    def read(self, since_ms: int) -> Mapping[str, Sequence[Act]]:
        """Request id to acts that arrived since, without those that were undone.

        Raises:
            EngineUnavailableError: the log does not answer.
        """
        for place, end in self._log.end_positions([USER_EVENTS]).items():
            if place not in self._next:
                self._next[place] = self._first_since(place, since_ms, end)
            while self._next[place] < end:
                records = self._log.read(place, self._next[place], _BATCH)
                if not records:
                    break
                self._next[place] = records[-1].position.offset + 1
                for record in records:
                    self._take(record)
        self._acts = {
            request_id: kept
            for request_id, acts in self._acts.items()
            if (kept := [act for act in acts if self._counts(act, since_ms)])
        }
        return self._acts

    def _counts(self, act: Act, since_ms: int) -> bool:
        return act.arrived_ms >= since_ms and act.event_id not in self._undone

    def _first_since(self, place: Place, since_ms: int, end: int) -> int:
        low, high = 0, end
        while low < high:
            middle = (low + high) // 2
            found = self._log.read(place, middle, 1)
            if found and found[0].published_at < 1000 * since_ms:
                low = found[0].position.offset + 1
            else:
                high = middle
        return low

    def _take(self, record: Record) -> None:
        if b'"request_id"' not in record.body and b'"undo"' not in record.body:
            return
        try:
            event = decode(record)
        except UnknownEventError:
            return
        if not isinstance(event, UserInteractionEvent):
            return
        if event.interaction_type is InteractionType.UNDO:
            self._undone.add(event.target_event_id or "")
        elif event.request_id is not None:
            act = Act(
                event.user_id,
                event.movie_id,
                event.interaction_type,
                event.rating,
                round(1000 * event.timestamp.timestamp()),
                record.published_at // 1000,
                record.event_id,
            )
            self._acts.setdefault(event.request_id, []).append(act)
