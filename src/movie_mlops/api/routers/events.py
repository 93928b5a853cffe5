"""What viewers do: on disk before the 202, in the next list at once."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import TypeAdapter, ValidationError

from movie_mlops.api.dependencies import WRITE, MaySeeOf, Services
from movie_mlops.api.errors import InvalidRequestError
from movie_mlops.api.schemas.events import (
    NO_MOVIE,
    Accepted,
    FeedbackIn,
    InteractionIn,
    Said,
    fingerprint,
)
from movie_mlops.api.schemas.ids import EventIdIn
from movie_mlops.domain.errors import EngineUnavailableError, EventConflictError
from movie_mlops.domain.interactions import Interaction, InteractionType
from movie_mlops.domain.movies import MovieId
from movie_mlops.events import EventLog
from movie_mlops.events.base import NewEvent, Published
from movie_mlops.events.schemas import USER_EVENTS, encode_interaction, new_event_id
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.monitoring import metrics

router = APIRouter(tags=["events"], dependencies=[WRITE])
IdempotencyKey = Annotated[
    str | None, Header(description="The event's id, instead of `event_id` in the body.")
]
_OUTCOMES = {
    outcome: (metrics.EVENTS.labels(USER_EVENTS, outcome), 1.0)
    for outcome in ("accepted", "duplicate")
}
Done = Callable[[Published | BaseException], None]
"""Takes where an event stands, or why it was not stored."""
_GATHER_SECONDS = 0.002
_EACH_SECONDS = 0.00015  # what this thread spends on one event, from its bytes to its answer
_NEW = 0.1  # the weight of the newest commit in what one takes
_LOG = logging.getLogger(__name__)
_EVENT_ID: TypeAdapter[str] = TypeAdapter(EventIdIn)
_CLICK = InteractionType.CLICK  # looked up once: that costs more than the comparison


class Publisher:
    """Publishes what arrives together in one go and tells all who wait.

    A commit costs much and an event in it little, so one batch is on its way at a time. Whoever
    was answered together asks again together; so the next batch leaves when all have asked again,
    while the disk takes longer than this thread needs for them. When it does not, it leaves when
    half of them have: this thread answers one half while the other is on its way to the disk.
    It leaves a moment later in any case, and a single event at once. Nobody waits longer than
    `limit_seconds` (`TimeoutError`); the event may be stored then.
    """

    def __init__(self, log: EventLog, limit_seconds: float) -> None:
        self._log, self._limit = log, limit_seconds
        self._waiting = _Batch([], [])
        self._flying, self._expected, self._commit_seconds = 0, 1, 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.refused_at = float("-inf")  # of the monotonic clock: the log was down or full

    def publish(self, event: NewEvent, done: Done) -> None:
        """Call `done` with where the event stands, once it is on disk; never from within here.

        Or with what the log's `publish` raises.
        """
        self._waiting.events.append(event)
        self._waiting.listeners.append(done)
        if not self._flying:
            self._consider()

    def _consider(self) -> None:
        if self._flying or not self._waiting.events:
            return
        if len(self._waiting.events) >= self._expected:
            self._send_waiting()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_GATHER_SECONDS, self._send_waiting)

    def _send_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting, _Batch([], [])
        self._send(batch)

    def _send(self, batch: "_Batch") -> None:
        loop = asyncio.get_running_loop()
        try:
            job = self._log.publish_future(USER_EVENTS, batch.events)
        except Exception as error:  # noqa: BLE001 (whoever waits shall hear it)
            loop.call_soon(self._answer, batch, [error] * len(batch.events))
            return
        self._flying += 1
        too_late = [TimeoutError()] * len(batch.events)
        late = loop.call_later(self._limit, self._answer, batch, too_late)
        start = loop.time()

        def done(job: "Future[list[Published]]") -> None:
            with suppress(RuntimeError):  # the loop has ended, and with it those who waited
                loop.call_soon_threadsafe(self._done, batch, job, late, start)

        job.add_done_callback(done)

    def _done(
        self,
        batch: "_Batch",
        job: "Future[list[Published]]",
        late: asyncio.TimerHandle,
        start: float,
    ) -> None:
        late.cancel()
        self._flying -= 1
        error = job.exception()
        if isinstance(error, EventConflictError) and len(batch.events) > 1:
            for event, listener in zip(batch.events, batch.listeners, strict=True):
                self._send(_Batch([event], [listener]))  # nothing was stored: each is judged alone
            self._consider()  # those who came meanwhile, should the log be closed by now
            return
        self._expect(len(batch.events), asyncio.get_running_loop().time() - start)
        self._consider()  # the disk first: it works while those who waited are told
        self._answer(batch, job.result() if error is None else [error] * len(batch.events))

    def _expect(self, answered: int, seconds: float) -> None:
        """Decide for how many the next batch waits, after one that took so long."""
        self._commit_seconds += _NEW * (seconds - self._commit_seconds)
        active = answered + len(self._waiting.events)
        disk_is_slower = self._commit_seconds > active * _EACH_SECONDS
        self._expected = active if disk_is_slower else (active + 1) // 2

    def _answer(self, batch: "_Batch", found: Sequence[Published | BaseException]) -> None:
        if isinstance(found[0], EngineUnavailableError):
            self.refused_at = time.monotonic()
        listeners, batch.listeners = batch.listeners, [None] * len(batch.events)
        for done, answer in zip(listeners, found, strict=True):
            if done is None:  # was told that it takes too long
                continue
            try:
                done(answer)
            except Exception:  # noqa: BLE001 (the others shall hear)
                _LOG.exception("an event's answer could not be given")


@dataclass(slots=True)
class _Batch:
    """Events, and who is told about each; nobody any more once they were answered."""

    events: list[NewEvent]
    listeners: list[Done | None]


async def get_publisher(request: Request) -> Publisher:
    """The way of this process into the log."""
    publisher: Publisher = request.app.state.publisher
    return publisher


PublisherOf = Annotated[Publisher, Depends(get_publisher)]


@router.post("/api/v1/events/user-interaction", status_code=202)
async def record_interaction(
    body: InteractionIn,
    services: Services,
    publisher: PublisherOf,
    sees: MaySeeOf,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """Take one act of a viewer; the same id again is a duplicate and counts once."""
    sees(body.user_id)
    answer = await record(body, idempotency_key, services, publisher)
    response.headers["X-Position"] = answer["position"]
    return Accepted.model_construct(**answer)


@router.post("/api/v1/feedback", status_code=202)
async def record_feedback(
    body: FeedbackIn,
    services: Services,
    publisher: PublisherOf,
    sees: MaySeeOf,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """Take a like or a rating."""
    sees(body.user_id)
    answer = await record(body, idempotency_key, services, publisher)
    response.headers["X-Position"] = answer["position"]
    return Accepted.model_construct(**answer)


async def record(
    body: InteractionIn, key: str | None, services: ApiServices, publisher: Publisher
) -> dict[str, Any]:
    """Store what a viewer did and let this process know it; the fields of `Accepted`.

    Raises:
        InvalidRequestError: the key is no id, or another one than the body's.
        EventConflictError: the id was taken by another event.
        EngineUnavailableError: the log does not answer or is full.
        TimeoutError: it takes too long.
    """
    waiting: asyncio.Future[Published] = asyncio.get_running_loop().create_future()

    def done(answer: Published | BaseException) -> None:
        if waiting.done():  # who asked has gone
            return
        if isinstance(answer, BaseException):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)

    act = begin(body, key, publisher, done)
    return finish(act, await waiting, services)


def begin(said: Said, key: str | None, publisher: Publisher, done: Done) -> Interaction:
    """Hand what a viewer did to the log; `done` is told where it stands, after this returns.

    Raises:
        InvalidRequestError: the key is no id, or another one than the body's.
    """
    act = Interaction(
        _chosen_id(said.event_id, key) or new_event_id(),
        said.user_id,
        MovieId(said.movie_id or NO_MOVIE),
        said.interaction_type,
        said.timestamp or datetime.now(UTC),
        said.rating,
        said.target_event_id,
    )
    event = encode_interaction(act, said.session_id, said.request_id, fingerprint(said))
    publisher.publish(event, done)
    return act


def finish(act: Interaction, done: Published, services: ApiServices) -> dict[str, Any]:
    """Let this process know a stored event; the fields of `Accepted`."""
    known = act.movie_id == NO_MOVIE or act.movie_id in services.catalogue
    outcome = "duplicate" if done.is_duplicate else "accepted"
    if not done.is_duplicate:
        services.histories.apply(act, done.position)
        if act.interaction_type is _CLICK:
            metrics.CLICKS.inc()
        if not known:
            metrics.UNKNOWN_FILMS.inc()
    metrics.TALLY.count(_OUTCOMES[outcome])
    return {
        "event_id": act.event_id,
        "status": outcome,
        "position": str(done.position),
        "known_movie": known,
    }


def is_one_id(given: str | None, key: str | None) -> bool:
    """Whether the body's id and the key name one id, or none."""
    try:
        _chosen_id(given, key)
    except InvalidRequestError:
        return False
    return True


def _chosen_id(given: str | None, key: str | None) -> str | None:
    if key is None:
        return given
    try:
        key = _EVENT_ID.validate_python(key)
    except ValidationError:
        message = "Idempotency-Key has 1 to 64 printable characters"
        raise InvalidRequestError(message) from None
    if given is not None and given != key:
        message = "event_id and Idempotency-Key name two ids; send one"
        raise InvalidRequestError(message)
    return key
