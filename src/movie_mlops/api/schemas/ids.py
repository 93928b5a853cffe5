"""Ids as the outside writes them."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

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


UserIdIn = Annotated[str, BeforeValidator(_user), _schema("user_3")]
MovieIdIn = Annotated[int, BeforeValidator(_movie), _schema("movie_42")]
EventIdIn = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]
ShortText = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
