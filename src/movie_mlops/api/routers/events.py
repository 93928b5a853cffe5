"""What viewers do: on disk before the 202, in the next list at once."""

import asyncio
import time
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import TypeAdapter, ValidationError

from movie_mlops.api.dependencies import WRITE, MaySeeOf, Services
from movie_mlops.api.errors import InvalidRequestError
from movie_mlops.api.schemas.events import NO_MOVIE, Accepted, FeedbackIn, InteractionIn
from movie_mlops.api.schemas.ids import EventIdIn
from movie_mlops.domain.errors import EngineUnavailableError, EventConflictError
from movie_mlops.domain.interactions import InteractionType
from movie_mlops.events import EventLog
from movie_mlops.events.base import NewEvent, Published
from movie_mlops.events.schemas import (
    USER_EVENTS,
    UserInteractionEvent,
    encode,
    new_event_id,
    to_interaction,
)
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.monitoring import metrics

router = APIRouter(tags=["events"], dependencies=[WRITE])
IdempotencyKey = Annotated[
    str | None, Header(description="The event's id, instead of `event_id` in the body.")
]
_OUTCOMES = {
    outcome: metrics.EVENTS.labels(USER_EVENTS, outcome) for outcome in ("accepted", "duplicate")
}
_GATHER_SECONDS = 0.002
_EVENT_ID: TypeAdapter[str] = TypeAdapter(EventIdIn)


class Publisher:
    """Publishes what arrives together in one go and tells all who wait at once.

    A commit costs much and an event in it little. So one batch is on its way at a time, and the
    next leaves when it is as large as the last one was, or a moment later: whoever was answered
    together asks again together. A single event leaves at once. Nobody waits longer than
    `limit_seconds` (`TimeoutError`); the event may be stored then.
    """

    def __init__(self, log: EventLog, limit_seconds: float) -> None:
        self._log, self._limit = log, limit_seconds
        self._waiting: _Batch = []
        self._flying, self._expected = 0, 1
        self._timer: asyncio.TimerHandle | None = None
        self.refused_at = float("-inf")  # of the monotonic clock: the log was down or full

    def publish(self, event: NewEvent) -> "asyncio.Future[Published]":
        """Where the event stands, once it is on disk; raises what the log's `publish` does."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Published] = loop.create_future()
        self._waiting.append((event, done))
        self._consider(loop)
        return done

    def _consider(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._flying or not self._waiting:
            return
        if len(self._waiting) >= self._expected:
            self._send_waiting(loop)
        elif self._timer is None:
            self._timer = loop.call_later(_GATHER_SECONDS, self._send_waiting, loop)

    def _send_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting, []
        self._expected = len(batch)
        self._send(batch, loop)

    def _send(self, batch: "_Batch", loop: asyncio.AbstractEventLoop) -> None:
        try:
            job = self._log.publish_future(USER_EVENTS, [event for event, _ in batch])
        except Exception as error:  # noqa: BLE001 (whoever waits shall hear it)
            self._answer(batch, None, error)
            return
        self._flying += 1
        late = loop.call_later(self._limit, self._answer, batch, None, TimeoutError())

        def done(job: "Future[list[Published]]") -> None:
            with suppress(RuntimeError):  # the loop has ended, and with it those who waited
                loop.call_soon_threadsafe(self._done, batch, job, late)

        job.add_done_callback(done)

    def _done(
        self, batch: "_Batch", job: "Future[list[Published]]", late: asyncio.TimerHandle
    ) -> None:
        late.cancel()
        self._flying -= 1
        loop, error = asyncio.get_running_loop(), job.exception()
        if isinstance(error, EventConflictError) and len(batch) > 1:
            for one in batch:  # nothing was stored: each is judged alone
                self._send([one], loop)
        else:
            self._answer(batch, None if error else job.result(), error)
        self._consider(loop)

    def _answer(
        self, batch: "_Batch", found: list[Published] | None, error: BaseException | None
    ) -> None:
        if isinstance(error, EngineUnavailableError):
            self.refused_at = time.monotonic()
        for place, (_, waiting) in enumerate(batch):
            if waiting.done():
                continue
            if found is not None:
                waiting.set_result(found[place])
            else:
                waiting.set_exception(error or TimeoutError())


_Batch = list[tuple[NewEvent, "asyncio.Future[Published]"]]


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
    event, event_id, published = begin(body, key, publisher)
    return finish(event, event_id, await published, services)


def begin(
    body: InteractionIn, key: str | None, publisher: Publisher
) -> "tuple[UserInteractionEvent, str, asyncio.Future[Published]]":
    """Hand what a viewer did to the log: the event, its id, and where it will stand.

    Raises:
        InvalidRequestError: the key is no id, or another one than the body's.
    """
    event_id = _chosen_id(body.event_id, key) or new_event_id()
    event = body.to_event(datetime.now(UTC))
    return event, event_id, publisher.publish(encode(event, event_id, body.fingerprint()))


def finish(
    event: UserInteractionEvent, event_id: str, done: Published, services: ApiServices
) -> dict[str, Any]:
    """Let this process know a stored event; the fields of `Accepted`."""
    known = event.movie_id == NO_MOVIE or event.movie_id in services.catalogue
    outcome = "duplicate" if done.is_duplicate else "accepted"
    if not done.is_duplicate:
        services.histories.apply(to_interaction(event, event_id), done.position)
        if event.interaction_type is InteractionType.CLICK:
            metrics.CLICKS.inc()
        if not known:
            metrics.UNKNOWN_FILMS.inc()
    metrics.TALLY.count((_OUTCOMES[outcome], 1.0))
    position = str(done.position)
    return {"event_id": event_id, "status": outcome, "position": position, "known_movie": known}


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
