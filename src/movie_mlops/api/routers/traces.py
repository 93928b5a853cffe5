"""What produced an answer, by its request id."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from movie_mlops.api.dependencies import JsonBytes, MaySee, MaySeeOf, Services
from movie_mlops.api.schemas.ids import RequestIdIn
from movie_mlops.api.schemas.traces import TraceOut
from movie_mlops.domain.errors import TraceNotFoundError
from movie_mlops.domain.interactions import parse_user_id
from movie_mlops.domain.versions import Alias
from movie_mlops.models.serving.exposures import Shown, Trace
from movie_mlops.models.serving.services import ApiServices

router = APIRouter(tags=["predictions"])


@router.get("/api/v1/predictions/{request_id}", response_model=TraceOut)
def get_trace(
    request_id: Annotated[RequestIdIn, Path(description="The `request_id` of an answer.")],
    services: Services,
    may_see: MaySeeOf,
    user_id: Annotated[
        str | None, Query(description="Whose answer, where one request asked for several.")
    ] = None,
) -> Response:
    """What produced an answer of the last day: model, data, history, films, arm."""
    viewer = None if user_id is None else parse_user_id(user_id)
    found = services.audience.exposures.find(request_id, viewer)
    if found is None:
        message = (
            f"no answer is known under {request_id!r}; the latest million of the last 24 hours are"
        )
        raise TraceNotFoundError(message)
    check_reader(found, may_see)
    return JsonBytes(_trace(found, _card(found.shown, services)))


def check_reader(found: Trace, may_see: MaySee) -> None:
    """Let a key that is bound to a viewer see only what was answered to that viewer.

    Raises:
        ForeignUserError: it was answered to somebody else.
    """
    may_see(found.shown.user_id or None)


def _card(shown: Shown, services: ApiServices) -> dict[str, Any] | None:
    for alias in Alias:
        loaded = services.loader.get(shown.model, alias)
        if loaded is not None and loaded.entry.card_sha256 == shown.card_sha256:
            return {key: value for key, value in loaded.card.items() if key != "files"}
    return None


def _trace(found: Trace, card: dict[str, Any] | None) -> dict[str, Any]:
    shown = found.shown
    return {
        "request_id": found.request_id,
        "time": datetime.fromtimestamp(found.at_ms / 1000, UTC),
        "kind": shown.kind,
        "user_id": shown.user_id or None,
        "path": shown.path or None,
        "model": shown.model,
        "model_version": shown.version,
        "snapshot": shown.snapshot,
        "algorithm": shown.algorithm or None,
        "card_sha256": shown.card_sha256 or None,
        "card": card,
        "history_position": shown.position or None,
        "items": shown.items,
        "ratings": shown.ratings,
        "facts": shown.facts,
        "experiment": shown.experiment or None,
        "arm": shown.arm or None,
    }
