"""Who asks: API keys with scopes and subjects, known by their hash only."""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from starlette.requests import Request

from movie_mlops.api.errors import (
    ForeignUserError,
    KeyRequiredError,
    ScopeMissingError,
)
from movie_mlops.domain.interactions import parse_user_id
from movie_mlops.settings import SCOPES, ApiKey, Scope, Settings

KEY_HEADER = "X-API-Key"
_BEARER = re.compile(r"bearer +([\x21-\x7e]+)", re.IGNORECASE)
_LONGEST_KEY = 512


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks; `name` is empty without a key, `subject` the only viewer it may see."""

    name: str
    scopes: frozenset[Scope]
    subject: str | None = None


class Keys:
    """The keys of this house. Without one a caller may read and write where that is open."""

    def __init__(self, settings: Settings) -> None:
        self._known = [
            (key.sha256.encode(), Caller(key.name, frozenset(key.scopes), _subject(key)))
            for key in settings.api_keys
        ]
        if settings.admin_api_key is not None:
            digest = sha256(settings.admin_api_key.get_secret_value().encode()).hexdigest()
            self._known.append((digest.encode(), Caller("admin", frozenset(SCOPES))))
        self.open = settings.is_open
        self._nobody = Caller("", frozenset({"read", "write"}) if self.open else frozenset())

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Who sends these headers.

        Raises:
            KeyRequiredError: a key that is none of this house's, or two different ones.
        """
        given = set()
        if KEY_HEADER in headers:
            given.add(headers[KEY_HEADER])
        bearer = _BEARER.fullmatch(headers.get("authorization", "").strip())
        if bearer is not None:
            given.add(bearer[1])
        elif "authorization" in headers:
            given.add("")  # another scheme is no key
        if not given:
            return self._nobody
        found = self._find(given.pop()) if len(given) == 1 else None
        if found is None:
            raise key_required("this key is not known here")
        return found

    def _find(self, key: str) -> Caller | None:
        if not 0 < len(key) <= _LONGEST_KEY:
            return None
        digest = sha256(key.encode("latin-1", "replace")).hexdigest().encode()
        found = None
        for known, caller in self._known:  # all of them, so that time tells nothing
            if hmac.compare_digest(known, digest):
                found = caller
        return found


def _subject(key: ApiKey) -> str | None:
    return None if key.subject is None else parse_user_id(key.subject)


def key_required(why: str) -> KeyRequiredError:
    """The 401 that names the header and where keys come from."""
    return KeyRequiredError(
        f"{why}; send a key in the header {KEY_HEADER} (or as a bearer token). The admin key lies "
        "in the house's .env as MOVIE_MLOPS_ADMIN_API_KEY (`movie-mlops up` makes one), others "
        "are made by `movie-mlops keys create`"
    )


def caller_of(request: Request) -> Caller:
    """Who asks, looked up once per request.

    Raises:
        KeyRequiredError: a key that is none of this house's.
    """
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None:
        keys: Keys = request.app.state.keys
        caller = request.state.caller = keys.caller(request.headers)
    return caller


def must_have(request: Request, scope: Scope) -> Caller:
    """The caller, who may do what `scope` names.

    Raises:
        KeyRequiredError: it takes a key and there is none, or an unknown one.
        ScopeMissingError: the key is for something else.
    """
    caller = caller_of(request)
    if scope not in caller.scopes and "admin" not in caller.scopes:
        if not caller.name:
            raise key_required(f"this needs a key with the scope {scope}")
        message = f"the key {caller.name!r} lacks the scope {scope}; ask for another key"
        raise ScopeMissingError(message)
    return caller


def may_see(request: Request, user_id: str | None) -> None:
    """Let a key that is bound to a viewer see and write only that viewer's data.

    To be called wherever a user id comes in; None means nobody's data.

    Raises:
        KeyRequiredError: an unknown key.
        ForeignUserError: the key is bound to another viewer.
    """
    subject = caller_of(request).subject
    if subject is not None and user_id is not None and user_id != subject:
        message = f"this key is bound to the viewer {subject!r}; it sees nobody else's data"
        raise ForeignUserError(message)
