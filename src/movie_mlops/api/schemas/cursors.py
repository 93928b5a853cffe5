"""Cursors: where the next page begins, opaque to the client and checked when they come back."""

import base64
import binascii
from hashlib import blake2b
from typing import Annotated

from pydantic import AfterValidator, Field

from movie_mlops.domain.movies import MAX_MOVIE_ID

_CHECK_BYTES = 3  # against typing errors and cursors of other addresses, not against attackers
_ID_BYTES = 8


def cursor_after(movie_id: int) -> str:
    """The cursor of the page that begins behind this film."""
    body = movie_id.to_bytes(_ID_BYTES, "big")
    return base64.urlsafe_b64encode(_check(body) + body).decode().rstrip("=")


def read_cursor(cursor: str) -> int:
    """The film that the cursor stands behind.

    Raises:
        ValueError: it is none of ours.
    """
    try:
        found = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        found = b""
    body = found[_CHECK_BYTES:]
    if len(body) != _ID_BYTES or found[:_CHECK_BYTES] != _check(body):
        message = "this is no cursor of this address; leave it out to begin anew"
        raise ValueError(message)
    return min(int.from_bytes(body, "big"), MAX_MOVIE_ID)


def _check(body: bytes) -> bytes:
    return blake2b(b"movies" + body, digest_size=_CHECK_BYTES).digest()


def _checked(cursor: str) -> str:
    read_cursor(cursor)
    return cursor


CursorIn = Annotated[str, Field(max_length=64), AfterValidator(_checked)]
