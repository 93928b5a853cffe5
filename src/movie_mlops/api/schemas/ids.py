"""Ids as the outside writes them."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from movie_mlops.domain.errors import InvalidIdError
from movie_mlops.domain.interactions import UserId, parse_user_id
from movie_mlops.domain.movies import MovieId, parse_movie_id


def _user(value: Any) -> UserId:
    if isinstance(value, bool) or not isinstance(value, int | str):
        message = "a user id is a number or a text"
        raise ValueError(message)  # noqa: TRY004 (pydantic turns only ValueError into a 422)
    return parse_user_id(value)


def _movie(value: Any) -> MovieId:
    if isinstance(value, bool) or not isinstance(value, int | str):
        message = "a film id is 123, '123' or 'movie_123'"
        raise ValueError(message)  # noqa: TRY004 (pydantic turns only ValueError into a 422)
    return parse_movie_id(value)


def _printable(value: str) -> str:
    if not value.isprintable():
        message = "only printable characters"
        raise ValueError(message)
    return value


def _schema(example: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"anyOf": [{"type": "integer"}, {"type": "string"}], "examples": [example]}
    )


def films_of(text: str) -> frozenset[MovieId]:
    """Read `42,movie_43`.

    Raises:
        InvalidIdError: one is no film id, or there are more than `MOST_FILMS`.
    """
    ids = [part.strip() for part in text.split(",") if part.strip()]
    if len(ids) > MOST_FILMS:
        message = f"{len(ids)} films are too many; at most {MOST_FILMS}"
        raise InvalidIdError(message)
    return frozenset(parse_movie_id(part) for part in ids)


MOST_FILMS = 100
MAX_ID, MAX_TEXT = 64, 128  # characters
REQUEST_ID = r"[A-Za-z0-9._-]{1,64}"
UserIdIn = Annotated[str, BeforeValidator(_user), _schema("user_3")]
MovieIdIn = Annotated[int, BeforeValidator(_movie), _schema("movie_42")]
EventIdIn = Annotated[str, Field(min_length=1, max_length=MAX_ID), AfterValidator(_printable)]
RequestIdIn = Annotated[
    str, Field(pattern=f"^{REQUEST_ID}$", examples=["019aa5a2b3c41f0e9d8c7b6a59483726"])
]
ShortText = Annotated[str, Field(min_length=1, max_length=MAX_TEXT), AfterValidator(_printable)]
