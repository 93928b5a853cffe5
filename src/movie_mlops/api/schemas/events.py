"""Bodies of events and feedback."""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Protocol, Self

import msgspec
from pydantic import BaseModel, Field, model_validator

from movie_mlops.api.schemas.ids import (
    MAX_ID,
    MAX_TEXT,
    REQUEST_ID,
    EventIdIn,
    MovieIdIn,
    RequestIdIn,
    ShortText,
    UserIdIn,
)
from movie_mlops.domain.interactions import (
    MAX_RATING,
    MIN_RATING,
    InteractionType,
    parse_user_id,
)
from movie_mlops.domain.movies import MAX_MOVIE_ID, parse_movie_id

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
LATEST = timedelta(days=1)
NO_MOVIE = 0
_REQUEST_ID = re.compile(REQUEST_ID)
_encode = msgspec.json.Encoder().encode
# looked up once: an enumeration's member costs more than what is done with it here
_LIKE, _RATING, _UNDO = InteractionType.LIKE, InteractionType.RATING, InteractionType.UNDO


class Said(Protocol):
    """What a body says, checked; ids as the house writes them, times in UTC."""

    user_id: Any
    movie_id: Any
    interaction_type: Any
    rating: Any
    timestamp: Any
    session_id: Any
    event_id: Any
    target_event_id: Any
    request_id: Any


class InteractionIn(BaseModel):
    """What a viewer did; a timestamp without a zone is UTC, none means now."""

    user_id: UserIdIn
    movie_id: MovieIdIn | None = None
    interaction_type: InteractionType
    rating: Annotated[float, Field(ge=MIN_RATING, le=MAX_RATING, allow_inf_nan=False)] | None = None
    timestamp: datetime | None = None
    session_id: ShortText | None = None
    event_id: EventIdIn | None = None
    target_event_id: EventIdIn | None = None
    request_id: Annotated[
        RequestIdIn | None, Field(description="The `request_id` of the answer that this follows.")
    ] = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.interaction_type is InteractionType.UNDO:
            if self.target_event_id is None:
                message = "undo needs target_event_id, the id of the event to take back"
                raise ValueError(message)
        elif self.movie_id is None:
            message = "movie_id is missing"
            raise ValueError(message)
        if self.interaction_type is InteractionType.RATING and self.rating is None:
            message = "an interaction of type rating needs rating, 0.5 to 5"
            raise ValueError(message)
        if self.timestamp is not None:
            self.timestamp = _checked_time(self.timestamp)
        return self


class FeedbackIn(InteractionIn):
    """As an interaction; the type is `rating` when there is a rating, else `like`."""

    @model_validator(mode="before")
    @classmethod
    def _with_type(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("interaction_type") is None:
            kind = InteractionType.LIKE if value.get("rating") is None else InteractionType.RATING
            return {**value, "interaction_type": kind}
        return value


class PlainInteraction(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What `read_plain` reads; see there."""

    user_id: Any
    movie_id: Any
    interaction_type: InteractionType | None = None
    rating: Any = None
    timestamp: None = None
    session_id: str | None = None
    event_id: str | None = None
    target_event_id: str | None = None
    request_id: str | None = None


_read = msgspec.json.Decoder(PlainInteraction).decode


def read_plain(body: bytes, *, is_feedback: bool) -> PlainInteraction | None:
    """What the schema makes of a body, faster; None where only the schema can tell.

    Never anything that the schema would refuse: every check of it is here, and what is rare
    (times, undo, numbers as text, unknown fields) is left to it.
    """
    try:
        said = _read(body)
        said.user_id, said.movie_id = _ids(said)
    except (msgspec.MsgspecError, ValueError):  # an id that is none is a ValueError too
        return None
    kind, rating = said.interaction_type, said.rating
    if kind is None and is_feedback:
        kind = _LIKE if rating is None else _RATING
        said.interaction_type = kind
    if rating is not None:
        if type(rating) not in (int, float) or not MIN_RATING <= rating <= MAX_RATING:
            return None
        said.rating = float(rating)
    elif kind is _RATING:
        return None
    if kind is None or kind is _UNDO or not _are_plain(said):
        return None
    return said


def _ids(said: PlainInteraction) -> tuple[str, int]:
    user, film = said.user_id, said.movie_id
    if type(user) not in (str, int) or type(film) not in (str, int):
        raise ValueError
    is_known = type(film) is int and 1 <= film <= MAX_MOVIE_ID
    return parse_user_id(user), film if is_known else parse_movie_id(film)


def _are_plain(said: PlainInteraction) -> bool:
    """Whether the texts are what the schema wants."""
    request_id = said.request_id
    return (
        (request_id is None or _REQUEST_ID.fullmatch(request_id) is not None)
        and _is_short(said.session_id, MAX_TEXT)
        and _is_short(said.event_id, MAX_ID)
        and _is_short(said.target_event_id, MAX_ID)
    )


def _is_short(text: str | None, most: int) -> bool:
    return text is None or (0 < len(text) <= most and text.isprintable())


def fingerprint(said: Said) -> bytes:
    """What the client said, without what the server adds: tells a repeat from a conflict."""
    values: tuple[object, ...] = (
        said.user_id, said.movie_id, said.interaction_type, said.rating, said.timestamp,
        said.session_id, said.target_event_id,
    )  # fmt: skip
    if said.request_id is not None:  # what came without one is the same as ever
        values += (said.request_id,)
    return hashlib.blake2b(_encode(values), digest_size=16).digest()


class Accepted(BaseModel):
    """The event is on disk; send `position` back as X-Position to read your own write."""

    event_id: str
    status: Literal["accepted", "duplicate"]
    position: str
    known_movie: bool


def _checked_time(time: datetime) -> datetime:
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    try:
        time = time.astimezone(UTC)
    except OverflowError:
        time = EARLIEST - LATEST
    if not EARLIEST <= time <= datetime.now(UTC) + LATEST:
        message = "timestamp must lie between 1990 and a day from now"
        raise ValueError(message)
    return time
