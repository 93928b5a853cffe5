"""Ready answers of the recommendation route: made once, kept while nothing they depend on moves."""

import re
from typing import NamedTuple

import msgspec

from movie_mlops.api.dependencies import liked_language
from movie_mlops.api.routers.recommendations import Asked, list_answer
from movie_mlops.domain.errors import InvalidIdError
from movie_mlops.domain.experiments import Arm
from movie_mlops.domain.interactions import UserId, parse_user_id
from movie_mlops.domain.versions import Alias
from movie_mlops.models.serving.exposures import Shown
from movie_mlops.models.serving.posters import Language
from movie_mlops.models.serving.recommender import ANONYMOUS, Stamp, effects
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.monitoring.metrics import Counter

KEPT_BYTES = 20_000_000
_KEPT_QUERIES = 20_000
_LONGEST_KEPT = 200  # of query and language together: nobody fills the memory with long ones
_AROUND = 800  # bytes of an answer's objects without those for its films
_PLAIN = re.compile(rb"[A-Za-z0-9_.=&-]{0,300}")  # nothing that would have to be decoded
_LENGTH = re.compile(rb"[1-9][0-9]?|100")
_LANGUAGES: dict[bytes, Language] = {b"ko": "ko", b"en": "en"}
_NO_ID = b'"request_id":""'
_encode = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """The body before and behind the request's id, what it counts in, what is noted of it."""

    stamp: Stamp
    head: bytes
    tail: bytes
    counts: tuple[tuple[Counter, float], ...]
    arm: Arm | None
    shown: Shown


class ReadyLists:
    """Answers of one process. The event loop makes them, one at a time: no stampede."""

    def __init__(self, services: ApiServices, kept_bytes: int = KEPT_BYTES) -> None:
        self._services = services
        self._trial = services.audience.trial
        self._asked: dict[tuple[bytes, bytes], Asked | None] = {}
        # two generations: what is asked for again moves to the young one, the old one is dropped
        self._young: dict[Asked, Answer] = {}
        self._old: dict[Asked, Answer] = {}
        self._bytes, self._most_bytes = 0, kept_bytes // 2

    def asked(self, query: bytes, accept_language: bytes) -> Asked | None:
        """What a plain query asks for; None where it takes more to understand or refuse it."""
        key = (query, accept_language)
        if len(query) + len(accept_language) > _LONGEST_KEPT:
            return _read(*key)
        if key not in self._asked:
            if len(self._asked) >= _KEPT_QUERIES:
                self._asked.clear()
            self._asked[key] = _read(*key)
        return self._asked[key]

    def answer(self, asked: Asked) -> Answer:
        """The answer as of now: after a 202 it knows the event, after a swap the model."""
        recommender = self._services.recommender
        user = asked.user_id if asked.user_id is not None else ANONYMOUS
        arm = self._trial.arm_of(user)
        alias = Alias.CHAMPION if arm is None else arm.alias
        stamp = recommender.stamp(user, alias)
        kept = self._young.get(asked)
        if kept is not None and kept.stamp == stamp and kept.arm is arm:
            return kept
        kept = self._old.get(asked)
        if kept is None or kept.stamp != stamp or kept.arm is not arm:
            made = recommender.list_for(user, asked.k, alias)
            body = _encode(list_answer(self._services, made, asked, ""))
            head, _, tail = body.partition(_NO_ID)
            shown = self._trial.list_shown(made, arm)
            kept = Answer(stamp, head + _NO_ID[:-1], b'"' + tail, effects(made), arm, shown)
        self._keep(asked, kept)
        return kept

    def _keep(self, asked: Asked, answer: Answer) -> None:
        before = self._young.get(asked)
        self._young[asked] = answer
        self._bytes += _size(answer) - (_size(before) if before is not None else 0)
        if self._bytes > self._most_bytes:
            self._old, self._young, self._bytes = self._young, {}, 0


def _size(answer: Answer) -> int:
    # what the objects around them take, measured with lists of ten; each film more is a number
    return len(answer.head) + len(answer.tail) + _AROUND + 40 * len(answer.shown.items)


def _read(query: bytes, accept_language: bytes) -> Asked | None:
    if not _PLAIN.fullmatch(query):
        return None
    pairs = [part.partition(b"=") for part in query.split(b"&") if part]
    given = {name: value for name, _, value in pairs}
    k, expand = given.pop(b"k", b"10"), given.pop(b"expand", None)
    lang, user = given.pop(b"lang", None), given.pop(b"user_id", None)
    plain = len(pairs) == len({name for name, _, _ in pairs}) and not given
    known = lang in (None, *_LANGUAGES) and expand in (None, b"movie")
    if not plain or not known or not _LENGTH.fullmatch(k):
        return None
    try:
        user_id: UserId | None = None if user is None else parse_user_id(user.decode())
    except InvalidIdError:
        return None
    language = liked_language(accept_language.decode("latin-1")) if lang is None else None
    return Asked(user_id, int(k), language or _LANGUAGES[lang or b"en"], expand is not None)
