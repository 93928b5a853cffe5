"""Topics and event types: the one list of what may be said, and its JSON."""

import random
import time
from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol

import msgspec
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from movie_mlops.domain.errors import UnknownEventError
from movie_mlops.domain.interactions import MAX_USER_ID_LENGTH, Interaction, InteractionType, UserId
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


MAX_TEXT = 2_000
# unknown fields are passed over, so that a newer writer does not stop an older reader
_SCHEMA = ConfigDict(extra="ignore")


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


Time = Annotated[datetime, AfterValidator(_utc)]
"""Aware and UTC; a time without a zone is taken as UTC."""
Name = Annotated[str, Field(min_length=1, max_length=128)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class Event(Protocol):
    """A pydantic dataclass of this module."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


@dataclass(frozen=True, slots=True, config=_SCHEMA)
class UserInteractionEvent:
    """One act of one viewer; `movie_id` is 0 in an undo without a film.

    `request_id` names the answer that the act follows: an outcome joins its exposure by it.
    """

    user_id: Annotated[str, Field(min_length=1, max_length=MAX_USER_ID_LENGTH)]
    movie_id: Annotated[int, Field(ge=0, lt=2**63)]
    interaction_type: InteractionType
    timestamp: Time
    rating: Finite | None = None
    session_id: str | None = None
    target_event_id: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, config=_SCHEMA)
class ModelDriftEvent:
    """What viewers do now differs from what the model was trained on, or somebody says so."""

    model_name: Name
    model_version: str
    drift_score: Finite
    threshold: Finite
    timestamp: Time
    metrics: dict[str, Finite] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, config=_SCHEMA)
class SystemHealthEvent:
    """How a service is; CPU and memory in per cent."""

    service_name: Name
    status: Name
    cpu_usage: Percent
    memory_usage: Percent
    response_time_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    timestamp: Time


@dataclass(frozen=True, slots=True, config=_SCHEMA)
class ScalingAlert:
    """A service is overloaded: whoever scales it should add replicas."""

    service_name: Name
    reason: Text
    timestamp: Time


@dataclass(frozen=True, slots=True, config=_SCHEMA)
class ModelPromoted:
    """An alias names another version from now on."""

    model_name: Name
    version: str
    alias: str
    algorithm: str
    snapshot: str
    timestamp: Time


@dataclass(frozen=True, slots=True, config=_SCHEMA)
class LoopTransition:
    """One step of the closed loop: who moved what from where to where, and why.

    `subject` is a model version, a retraining or the loop itself; `cause` is the id of what set
    it off, the same for everything that follows from one drift.
    """

    model_name: Name
    subject: Text
    before: Name
    after: Name
    reason: Text
    actor: Name
    cause: str
    timestamp: Time


@dataclass(frozen=True, slots=True, config=_SCHEMA)
class BatchPredicted:
    """Lists for all users were computed and are the last fallback from now on."""

    model_name: Name
    model_version: str
    snapshot: str
    users: Annotated[int, Field(ge=0)]
    timestamp: Time


@dataclass(frozen=True, slots=True, config=_SCHEMA)
class DeadLetter:
    """An event that a consumer could not handle, whole, and why."""

    position: str
    group: str
    event_id: str
    key: str
    type: str
    body: str
    reason: Text


@dataclass(frozen=True, slots=True, config=_SCHEMA)
class Redelivered:
    """A dead letter's event once more, for the group that could not handle it."""

    position: str
    group: str
    event_id: str
    key: str
    type: str
    body: str


@dataclass(frozen=True, slots=True, config=_SCHEMA)
class Erased:
    """Here stood an event of a viewer who was erased at this time; written by the log alone."""

    at: Time


class EventType(NamedTuple):
    """Which topic a type goes to and which field is its key."""

    name: str
    struct: type[Any]
    topic: str
    key_field: str


EVENT_TYPES = (
    EventType("user_interaction.v1", UserInteractionEvent, USER_EVENTS, "user_id"),
    EventType("redelivered.v1", Redelivered, USER_EVENTS, "key"),
    EventType("model_drift.v1", ModelDriftEvent, DRIFT_ALERTS, "model_name"),
    EventType("system_health.v1", SystemHealthEvent, SYSTEM_HEALTH, "service_name"),
    EventType("scaling_alert.v1", ScalingAlert, SYSTEM_HEALTH, "service_name"),
    EventType("model_promoted.v1", ModelPromoted, MODEL_LIFECYCLE, "model_name"),
    EventType("loop_transition.v1", LoopTransition, MODEL_LIFECYCLE, "model_name"),
    EventType("batch_predicted.v1", BatchPredicted, RECOMMENDATIONS, "model_name"),
    EventType("dead_letter.v1", DeadLetter, DEAD_LETTERS, "position"),
    EventType("erased.v1", Erased, USER_EVENTS, "at"),
)
_BY_NAME = {kind.name: kind for kind in EVENT_TYPES}
_BY_STRUCT = {kind.struct: kind for kind in EVENT_TYPES}
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {
    kind.struct: TypeAdapter(kind.struct) for kind in EVENT_TYPES
}


def new_event_id() -> str:
    """An id for an event that came without one: the microsecond, then 72 random bits.

    In the order of time, so that a store's index grows at its end instead of everywhere.
    """
    number = time.time_ns() // 1000 << 72 | random.getrandbits(72)
    return number.to_bytes(16, "big").hex()  # cheaper than formatting it


def topic_of(event: Event) -> str:
    """The topic that events of this class go to."""
    return _BY_STRUCT[type(event)].topic


def encode(event: Event, event_id: str | None = None, fingerprint: bytes = b"") -> NewEvent:
    """The event as the log takes it."""
    kind = _BY_STRUCT[type(event)]
    key = str(getattr(event, kind.key_field))
    body = _ADAPTERS[kind.struct].serializer.to_json(event, exclude_defaults=True)
    return NewEvent(event_id or new_event_id(), key, kind.name, body, fingerprint)


class _Interaction(msgspec.Struct, omit_defaults=True, gc=False):
    """The fields of `UserInteractionEvent`, in its order."""

    user_id: str
    movie_id: int
    interaction_type: InteractionType
    timestamp: datetime
    rating: float | None = None
    session_id: str | None = None
    target_event_id: str | None = None
    request_id: str | None = None


_write = msgspec.json.Encoder().encode


def encode_interaction(
    act: Interaction, session_id: str | None, request_id: str | None, fingerprint: bytes
) -> NewEvent:
    """What `encode` makes of the same event, byte for byte, and faster.

    The values were checked before, by rules at least as strict; `timestamp` is UTC.
    """
    body = _Interaction(
        act.user_id, act.movie_id, act.interaction_type, act.timestamp, act.rating, session_id,
        act.target_event_id, request_id,
    )  # fmt: skip
    return NewEvent(act.event_id, act.user_id, "user_interaction.v1", _write(body), fingerprint)


def decode(record: Record) -> Any:
    """The event of a stored record.

    Raises:
        UnknownEventError: no schema has this type, or the body does not fit it.
    """
    kind = _BY_NAME.get(record.type)
    if kind is None:
        message = f"no schema of this version has the event type {record.type[:80]!r}"
        raise UnknownEventError(message)
    try:
        return _ADAPTERS[kind.struct].validate_json(record.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        message = f"{record.type} at {record.position} does not fit its schema: {where}: "
        raise UnknownEventError(message + first["msg"]) from error


def field_names(kind: EventType) -> list[str]:
    """The fields of a type."""
    return [field.name for field in fields(kind.struct)]


def schema_of(kind: EventType) -> dict[str, Any]:
    """The JSON schema of a type's body."""
    return _ADAPTERS[kind.struct].json_schema(mode="serialization")


def to_interaction(event: UserInteractionEvent, event_id: str) -> Interaction:
    """The event in the words of the domain."""
    return Interaction(
        event_id=event_id,
        user_id=UserId(event.user_id),
        movie_id=MovieId(event.movie_id),
        interaction_type=event.interaction_type,
        timestamp=event.timestamp,
        rating=event.rating,
        target_event_id=event.target_event_id,
    )
