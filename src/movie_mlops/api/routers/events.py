"""What viewers do: on disk before the 202, in the next list at once."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Header, Response
from pydantic import TypeAdapter, ValidationError

from movie_mlops.api.dependencies import WRITE, Services
from movie_mlops.api.errors import InvalidRequestError
from movie_mlops.api.schemas.events import NO_MOVIE, Accepted, FeedbackIn, InteractionIn
from movie_mlops.api.schemas.ids import EventIdIn
from movie_mlops.domain.interactions import InteractionType
from movie_mlops.events.schemas import USER_EVENTS, encode, new_event_id, to_interaction
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.monitoring import metrics

router = APIRouter(tags=["events"], dependencies=[WRITE])
IdempotencyKey = Annotated[
    str | None, Header(description="The event's id, instead of `event_id` in the body.")
]
_EVENT_ID: TypeAdapter[str] = TypeAdapter(EventIdIn)


@router.post("/api/v1/events/user-interaction", status_code=202)
async def record_interaction(
    body: InteractionIn,
    services: Services,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """Take one act of a viewer; the same id again is a duplicate and counts once."""
    return await _record(body, idempotency_key, services, response)


@router.post("/api/v1/feedback", status_code=202)
async def record_feedback(
    body: FeedbackIn,
    services: Services,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """Take a like or a rating."""
    return await _record(body, idempotency_key, services, response)


async def _record(
    body: InteractionIn, key: str | None, services: ApiServices, response: Response
) -> Accepted:
    event_id = _chosen_id(body.event_id, key) or new_event_id()
    event = body.to_event(datetime.now(UTC))
    new = encode(event, event_id, body.fingerprint())
    [done] = await asyncio.wrap_future(services.log.publish_future(USER_EVENTS, [new]))
    known = event.movie_id == NO_MOVIE or event.movie_id in services.catalogue
    outcome = "duplicate" if done.is_duplicate else "accepted"
    if not done.is_duplicate:
        services.histories.apply(to_interaction(event, event_id), done.position)
        if event.interaction_type is InteractionType.CLICK:
            metrics.CLICKS.inc()
        if not known:
            metrics.UNKNOWN_FILMS.inc()
    metrics.EVENTS.labels(USER_EVENTS, outcome).inc()
    response.headers["X-Position"] = str(done.position)
    return Accepted.model_construct(
        event_id=event_id, status=outcome, position=str(done.position), known_movie=known
    )


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
