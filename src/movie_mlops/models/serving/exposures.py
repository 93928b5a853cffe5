"""Who was shown what, by whom: noted in memory, written in batches, found by request id."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.domain.experiments import Experiment
from movie_mlops.domain.requests import made_at_ms
from movie_mlops.models.serving.exposure_store import KEPT_SECONDS, Batch, ExposureStore
from movie_mlops.monitoring.metrics import EXPOSURES_DROPPED, TALLY

FLUSH_SECONDS = 0.1
MOST_PENDING = 100_000
LOOK_UP_SECONDS = 0.5
_PRUNE_SECONDS = 10.0
_KNOWN_SUBJECTS = 200_000
_BEFORE_MS, _AFTER_MS = 10, 60_000  # how far a record may stand from its id's own time
_FRESH_MS = 2_000  # another process may not have written it yet
_DROPPED = {reason: EXPOSURES_DROPPED.labels(reason) for reason in ("full", "unwritten")}
_LOG = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode


class Shown(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """One answer and what produced it; answers that are the same share it.

    `kind` is `list`, `rating` or `shadow` (made, but not shown). `position` says up to which
    place of the event log the viewer's history went. `facts` are what a rating was made from.
    """

    kind: str
    user_id: str
    path: str
    model: str
    version: str
    snapshot: str
    algorithm: str = ""
    card_sha256: str = ""
    position: str = ""
    items: tuple[int, ...] = ()
    ratings: tuple[float, ...] = ()
    facts: Any = None
    experiment: str = ""
    arm: str = ""

    @cached_property
    def packed(self) -> msgspec.Raw:
        """As it is stored: an answer that is given again is not encoded again."""
        return msgspec.Raw(_encode(self))


class Trace(NamedTuple):
    """A found record; `at_ms` is milliseconds since 1970."""

    request_id: str
    at_ms: int
    shown: Shown


class _Body(msgspec.Struct, array_like=True):
    begin_ms: int
    request_ids: Sequence[str]
    after_ms: Sequence[int]
    places: Sequence[int]
    shown: Sequence[Shown]


_decode = msgspec.msgpack.Decoder(_Body).decode


class ExposureLog:
    """Of one process. `note` costs under a microsecond; a kill loses a moment's records.

    `experiment` is the test whose users are counted beside.
    """

    def __init__(self, store: ExposureStore, experiment: Experiment | None = None) -> None:
        self._store, self.experiment = store, experiment
        self._pending: list[tuple[str, float, Shown]] = []
        self._append = self._pending.append
        self._known: set[tuple[str, str, str]] = set()
        self._pruned_at = 0.0
        self._is_losing = False
        self._flushing, self._searching = threading.Lock(), threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="exposures", daemon=True)

    def note(self, request_id: str, shown: Shown) -> None:
        """Remember an answer; when too many wait to be written it is dropped and counted."""
        if len(self._pending) < MOST_PENDING:
            self._append((request_id, time.time(), shown))
        else:
            TALLY.count((_DROPPED["full"], 1.0))

    def start(self) -> None:
        """Write what is noted, from now on."""
        self._thread.start()

    def close(self) -> None:
        """Write what is left; the store stays open."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.flush()

    def flush(self) -> None:
        """Write what is noted now; what cannot be written is dropped and counted."""
        with self._flushing:
            noted = self._pending[:]
            del self._pending[: len(noted)]  # what comes in between stays for the next time
            if not noted:
                return
            try:
                self._write(noted)
            except EngineUnavailableError as error:
                _DROPPED["unwritten"].inc(len(noted))
                if not self._is_losing:  # once per outage; the counter says how many
                    _LOG.error("%d exposures were lost, more may be: %s", len(noted), error)
                self._is_losing = True
            else:
                if self._is_losing:
                    _LOG.warning("exposures are written again")
                self._is_losing = False

    def find(self, request_id: str, user_id: str | None = None) -> Trace | None:
        """What was answered under this id, at last; of several viewers' answers, this one's.

        Looks at the id's own time when it has one, else at the newest records; takes at most about
        a second and a half, so not on an event loop. None when there is none (any more).

        Raises:
            EngineUnavailableError: the store does not answer, or too many look-ups wait.
        """
        if not self._searching.acquire(timeout=LOOK_UP_SECONDS):
            message = "too many look-ups at once; try again in a second"
            raise EngineUnavailableError(message)
        try:
            self.flush()
            found = self.recall(request_id, user_id)
            if found is None and self._may_come(request_id):
                time.sleep(2 * FLUSH_SECONDS)
                found = self.recall(request_id, user_id)
        finally:
            self._searching.release()
        return found

    def recall(
        self, request_id: str, user_id: str | None, limit_seconds: float = LOOK_UP_SECONDS
    ) -> Trace | None:
        """As `find`, of what is written; an id without a time costs at most `limit_seconds`."""
        made, now = made_at_ms(request_id), 1000 * time.time()
        spans: list[tuple[int, int] | None] = [None]
        if made is not None and now - 1000 * KEPT_SECONDS < made < now + _AFTER_MS:
            spans.insert(0, (made - _BEFORE_MS, made + _AFTER_MS))
        for span in spans:
            seconds = LOOK_UP_SECONDS if span else limit_seconds
            for body in self._store.bodies(request_id, span, seconds):
                found = _in_body(body, request_id, user_id)
                if found is not None:
                    return found
        return None

    def _may_come(self, request_id: str) -> bool:
        made = made_at_ms(request_id)
        return made is None or abs(1000 * time.time() - made) < _FRESH_MS

    def _write(self, noted: Sequence[tuple[str, float, Shown]]) -> None:
        # whole columns at once: the event loop waits while this thread runs Python
        request_ids, times, shown = zip(*noted, strict=True)
        begin, end = round(1000 * min(times)), round(1000 * max(times))
        names = list(map(id, shown))
        held = dict(zip(names, shown, strict=True))
        order = dict(zip(held, range(len(held)), strict=True))
        places = list(map(order.__getitem__, names))
        after = (1000 * np.array(times)).round().astype(np.int64) - begin
        # the bytes that the answers become; a rating of one film is hardly ever given again
        packed: Any = [one if one.facts else one.packed for one in held.values()]
        body = _encode(_Body(begin, request_ids, after.tolist(), places, packed))
        subjects = self._subjects(noted)
        exposures = self._exposures(list(held.values()), places)
        self._store.write(Batch(begin, end, len(noted), body, tuple(subjects.values()), exposures))
        self._known |= subjects.keys()

    def _subjects(
        self, noted: Sequence[tuple[str, float, Shown]]
    ) -> dict[tuple[str, str, str], tuple[str, bytes, str, int]]:
        """By user and arm, those that this process has not written yet."""
        experiment = self.experiment
        if experiment is None:
            return {}
        name = experiment.name
        if len(self._known) > _KNOWN_SUBJECTS:
            self._known.clear()
        found: dict[tuple[str, str, str], tuple[str, bytes, str, int]] = {}
        for _, at, shown in noted:
            key = (name, shown.user_id, shown.arm)
            if shown.experiment == name and key not in self._known and key not in found:
                subject = experiment.subject(shown.user_id)
                found[key] = (name, subject, shown.arm, int(1000 * at))
        return found

    def _exposures(
        self, held: Sequence[Shown], places: Sequence[int]
    ) -> tuple[tuple[str, str, str, int], ...]:
        """Lists by test, arm and version; those made in the shadow count as a test's too."""
        if not any(shown.experiment for shown in held):
            return ()
        counts: Counter[tuple[str, str, str]] = Counter()
        for place, times in Counter(places).items():
            shown = held[place]
            if shown.experiment:
                counts[shown.experiment, shown.arm, shown.version] += times
        return tuple((*key, times) for key, times in counts.items())

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self.flush()
            if time.monotonic() > self._pruned_at + _PRUNE_SECONDS:
                self._pruned_at = time.monotonic()
                self._prune()

    def _prune(self) -> None:
        try:
            with self._flushing:
                self._store.prune()
        except EngineUnavailableError as error:
            _LOG.warning("old exposures stay for now: %s", error)


class Written(NamedTuple):
    """One written batch: answer `n` was given at `at_ms[n]` and was `shown[places[n]]`."""

    request_ids: Sequence[str]
    at_ms: NDArray[np.int64]
    places: NDArray[np.int64]
    shown: Sequence[Shown]


def written(store: ExposureStore, since_ms: int) -> Iterator[Written]:
    """All batches that end after this time, in the order they were written.

    Raises:
        EngineUnavailableError: the store does not answer.
    """
    for body in store.bodies_since(since_ms):
        held = _decode(body)
        at_ms = held.begin_ms + np.array(held.after_ms, np.int64)
        yield Written(held.request_ids, at_ms, np.array(held.places, np.int64), held.shown)


def erase_exposures(store: ExposureStore, user_id: str) -> int:
    """Take every answer to this user out; how many there were. Again: finds what is left.

    Raises:
        EngineUnavailableError: the store does not answer.
    """
    change = partial(_without_user, user_id=user_id)
    return sum(store.rewrite(number, change) for number in store.numbers_with(user_id))


def _without_user(body: bytes, user_id: str) -> tuple[bytes, int, int]:
    """The batch without the user's answers; how many are left, how many are gone."""
    held = _decode(body)
    order: dict[int, int] = {}
    for place, shown in enumerate(held.shown):
        if shown.user_id != user_id:
            order[place] = len(order)
    rows = zip(held.request_ids, held.after_ms, held.places, strict=True)
    kept = [(name, after, order[place]) for name, after, place in rows if place in order]
    request_ids, after_ms, places = zip(*kept, strict=True) if kept else ((), (), ())
    others = [held.shown[place] for place in order]
    made = _encode(_Body(held.begin_ms, request_ids, after_ms, places, others))
    return made, len(kept), len(held.request_ids) - len(kept)


def _in_body(body: bytes, request_id: str, user_id: str | None) -> Trace | None:
    held = _decode(body)
    rows = zip(held.request_ids, held.after_ms, held.places, strict=True)
    for name, after, place in reversed(list(rows)):
        shown = held.shown[place]
        mine = user_id is None or shown.user_id == user_id
        if name == request_id and mine and shown.kind != "shadow":
            return Trace(name, held.begin_ms + after, shown)
    return None
