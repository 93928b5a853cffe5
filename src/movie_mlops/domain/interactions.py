"""What viewers do with films, and who they are."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, NewType

from movie_mlops.domain.errors import InvalidIdError
from movie_mlops.domain.movies import MovieId

UserId = NewType("UserId", str)
"""Opaque, at most 128 characters; `user_001`, `user_1` and `1` are the same user `1`."""

MAX_USER_ID_LENGTH = 128
MIN_RATING, MAX_RATING = 0.5, 5.0
POSITIVE_RATING = 3.0


class InteractionType(StrEnum):
    """The seven things a viewer can do."""

    VIEW = "view"
    CLICK = "click"
    WATCH = "watch"
    RATING = "rating"
    LIKE = "like"
    DISLIKE = "dislike"
    UNDO = "undo"


class Interaction(NamedTuple):  # one is made for each event: a tuple is made fastest
    """One act of one viewer; `timestamp` is aware and UTC, `rating` is 0.5 … 5."""

    event_id: str
    user_id: UserId
    movie_id: MovieId
    interaction_type: InteractionType
    timestamp: datetime
    rating: float | None = None
    target_event_id: str | None = None


# looked up once: an enumeration's member costs more than what is done with it here
_RATING = InteractionType.RATING
_WATCHED = frozenset({InteractionType.WATCH, InteractionType.LIKE})
_HIDING = _WATCHED | {InteractionType.RATING, InteractionType.DISLIKE}


def is_positive(kind: InteractionType, rating: float | None) -> bool:
    """Whether the act trains the recommender: watch, like, a rating of 3 or more."""
    if kind is _RATING:
        return rating is not None and rating >= POSITIVE_RATING
    return kind in _WATCHED


def hides_film(kind: InteractionType) -> bool:
    """Whether the film is no longer recommended: seen (watch, like, rating) or disliked."""
    return kind in _HIDING


def parse_user_id(value: int | str) -> UserId:
    """Read `1`, `"1"`, `"user_1"` and `"user_001"` as `1`; any other text is its own user.

    Raises:
        InvalidIdError: empty, longer than 128 characters, or with control characters.
    """
    text = str(value) if not isinstance(value, bool) else ""
    if not text or len(text) > MAX_USER_ID_LENGTH or not text.isprintable():
        message = f"a user id has 1 to {MAX_USER_ID_LENGTH} printable characters"
        raise InvalidIdError(message)
    number = text.removeprefix("user_")
    is_number = number.isascii() and number.isdecimal()
    return UserId(number.lstrip("0") or "0" if is_number else text)
