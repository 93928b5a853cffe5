"""Bodies of events and feedback."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Self

import msgspec
from pydantic import BaseModel, Field, model_validator

from movie_mlops.api.schemas.ids import EventIdIn, MovieIdIn, RequestIdIn, ShortText, UserIdIn
from movie_mlops.domain.interactions import MAX_RATING, MIN_RATING, InteractionType
from movie_mlops.events.schemas import UserInteractionEvent, made_of

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
LATEST = timedelta(days=1)
NO_MOVIE = 0


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

    def to_event(self, now: datetime) -> UserInteractionEvent:
        """The event as the log keeps it."""
        return made_of(
            UserInteractionEvent,
            (
                self.user_id, self.movie_id or NO_MOVIE, self.interaction_type,
                self.timestamp or now, self.rating, self.session_id, self.target_event_id,
                self.request_id,
            ),
        )  # fmt: skip

    def fingerprint(self) -> bytes:
        """What the client said, without what the server adds: tells a repeat from a conflict."""
        said: tuple[object, ...] = (
            self.user_id, self.movie_id, self.interaction_type, self.rating, self.timestamp,
            self.session_id, self.target_event_id,
        )  # fmt: skip
        if self.request_id is not None:  # what came without one is the same as ever
            said += (self.request_id,)
        return hashlib.blake2b(msgspec.json.encode(said), digest_size=16).digest()


class FeedbackIn(InteractionIn):
    """As an interaction; the type is `rating` when there is a rating, else `like`."""

    @model_validator(mode="before")
    @classmethod
    def _with_type(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("interaction_type") is None:
            kind = InteractionType.LIKE if value.get("rating") is None else InteractionType.RATING
            return {**value, "interaction_type": kind}
        return value


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
