"""What viewers do with films, and who they are."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

from movie_mlops.domain.errors import InvalidIdError
from movie_mlops.domain.movies import MovieId

UserId = NewType("UserId", str)
"""Opaque, at most 128 characters; `user_001`, `user_1` and `1` are the same user `1`."""

MAX_USER_ID_LENGTH = 128
MIN_RATING, MAX_RATING = 0.5, 5.0
POSITIVE_RATING = 3.0
_NUMBERED_USER = re.compile(r"(?:user_)?0*(\d+)", re.ASCII)


class InteractionType(StrEnum):
    """The seven things a viewer can do."""

    VIEW = "view"
    CLICK = "click"
    WATCH = "watch"
    RATING = "rating"
    LIKE = "like"
    DISLIKE = "dislike"
    UNDO = "undo"


@dataclass(frozen=True, slots=True)
class Interaction:
    """One act of one viewer; `timestamp` is aware and UTC, `rating` is 0.5 … 5."""

    event_id: str
    user_id: UserId
    movie_id: MovieId
    interaction_type: InteractionType
    timestamp: datetime
    rating: float | None = None
    target_event_id: str | None = None


def is_positive(kind: InteractionType, rating: float | None) -> bool:
    """Whether the act trains the recommender: watch, like, a rating of 3 or more."""
    if kind is InteractionType.RATING:
        return rating is not None and rating >= POSITIVE_RATING
    return kind in (InteractionType.WATCH, InteractionType.LIKE)


def hides_film(kind: InteractionType) -> bool:
    """Whether the film is no longer recommended: seen (watch, like, rating) or disliked."""
    return kind in (
        InteractionType.WATCH,
        InteractionType.LIKE,
        InteractionType.RATING,
        InteractionType.DISLIKE,
    )


def parse_user_id(value: int | str) -> UserId:
    """Read `1`, `"1"`, `"user_1"` and `"user_001"` as `1`; any other text is its own user.

    Raises:
        InvalidIdError: empty, longer than 128 characters, or with control characters.
    """
    text = str(value) if not isinstance(value, bool) else ""
    if not text or len(text) > MAX_USER_ID_LENGTH or not text.isprintable():
        message = f"a user id has 1 to {MAX_USER_ID_LENGTH} printable characters"
        raise InvalidIdError(message)
    match = _NUMBERED_USER.fullmatch(text)
    return UserId(match.group(1) if match else text)
