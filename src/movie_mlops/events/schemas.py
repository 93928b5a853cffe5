"""Topics and event types: the one list of what may be said, and its JSON."""

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from movie_mlops.domain.errors import UnknownEventError
from movie_mlops.domain.interactions import Interaction, InteractionType, UserId
from movie_mlops.domain.movies import MovieId
from movie_mlops.events.base import NewEvent, Record

RECOMMENDATIONS = "movie-recommendations"
USER_EVENTS = "user-events"
DRIFT_ALERTS = "model-drift-alerts"
SYSTEM_HEALTH = "system-health"
MODEL_LIFECYCLE = "model-lifecycle"
DEAD_LETTERS = "dead-letters"

TOPICS = {
    RECOMMENDATIONS: 3,
    USER_EVENTS: 3,
    DRIFT_ALERTS: 1,
    SYSTEM_HEALTH: 2,
    MODEL_LIFECYCLE: 1,
    DEAD_LETTERS: 1,
}
"""Topic to number of partitions."""


class UserInteractionEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One act of one viewer; `timestamp` is aware; `movie_id` is 0 in an undo without a film.

    `request_id` names the answer that the act follows: an outcome joins its exposure by it.
    """

    user_id: str
    movie_id: int
    interaction_type: InteractionType
    timestamp: datetime
    rating: float | None = None
    session_id: str | None = None
    target_event_id: str | None = None
    request_id: str | None = None


class ModelPromoted(msgspec.Struct, frozen=True, omit_defaults=True):
    """An alias names another version from now on."""

    model_name: str
    version: str
    alias: str
    algorithm: str
    snapshot: str
    timestamp: datetime


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event that a consumer could not handle, whole, and why."""

    position: str
    group: str
    event_id: str
    key: str
    type: str
    body: str
    reason: str


@dataclass(frozen=True, slots=True)
class EventType:
    """Which topic a type goes to and which field is its key."""

    name: str
    struct: type[msgspec.Struct]
    topic: str
    key_field: str


EVENT_TYPES = (
    EventType("user_interaction.v1", UserInteractionEvent, USER_EVENTS, "user_id"),
    EventType("model_promoted.v1", ModelPromoted, MODEL_LIFECYCLE, "model_name"),
    EventType("dead_letter.v1", DeadLetter, DEAD_LETTERS, "position"),
)
_BY_NAME = {kind.name: kind for kind in EVENT_TYPES}
_BY_STRUCT = {kind.struct: kind for kind in EVENT_TYPES}
_ENCODER = msgspec.json.Encoder()
_DECODERS = {kind.name: msgspec.json.Decoder(kind.struct) for kind in EVENT_TYPES}


def new_event_id() -> str:
    """An id for an event that came without one: the microsecond, then 72 random bits.

    In the order of time, so that a store's index grows at its end instead of everywhere.
    """
    return f"{time.time_ns() // 1000:014x}{random.getrandbits(72):018x}"


def topic_of(event: msgspec.Struct) -> str:
    """The topic that events of this class go to."""
    return _BY_STRUCT[type(event)].topic


def encode(
    event: msgspec.Struct, event_id: str | None = None, fingerprint: bytes = b""
) -> NewEvent:
    """The event as the log takes it."""
    kind = _BY_STRUCT[type(event)]
    key = str(getattr(event, kind.key_field))
    body = _ENCODER.encode(event)
    return NewEvent(event_id or new_event_id(), key, kind.name, body, fingerprint)


def decode(record: Record) -> Any:
    """The event of a stored record.

    Raises:
        UnknownEventError: no schema has this type, or the body does not fit it.
    """
    decoder = _DECODERS.get(record.type)
    if decoder is None:
        message = f"no schema of this version has the event type {record.type[:80]!r}"
        raise UnknownEventError(message)
    try:
        return decoder.decode(record.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"{record.type} at {record.position} does not fit its schema: {error}"
        raise UnknownEventError(message) from error


def to_interaction(event: UserInteractionEvent, event_id: str) -> Interaction:
    """The event in the words of the domain."""
    return Interaction(
        event_id=event_id,
        user_id=UserId(event.user_id),
        movie_id=MovieId(event.movie_id),
        interaction_type=event.interaction_type,
        timestamp=event.timestamp.astimezone(UTC),
        rating=event.rating,
        target_event_id=event.target_event_id,
    )
