"""Health, readiness, metrics."""

import asyncio
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import PlainTextResponse

from movie_mlops.api.dependencies import JsonBytes, Services, Worker, WorkerClient
from movie_mlops.api.middleware import Traffic
from movie_mlops.api.routers.events import Publisher
from movie_mlops.api.schemas.health import HealthOut, LiveOut, PartOut, ReadyOut
from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.domain.versions import MOVIE_PREDICTOR, MOVIE_RECOMMENDER, Alias
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.monitoring.health import (
    LEVELS,
    DegradedError,
    PartHealth,
    Probe,
    overall,
    run_probes,
    worst_level,
)
from movie_mlops.monitoring.metrics import CONTENT_TYPE_LATEST, DEGRADATION, exposition

router = APIRouter(tags=["health"])
VERSION = version("movie-mlops")
_REMEMBERED_SECONDS = 10.0  # how long a refusal counts as the state of now


@router.get("/health")
async def get_health(services: Services, worker: Worker, request: Request) -> HealthOut:
    """The state of every part; always 200, see /v2/health/ready for a probe."""
    parts = await _parts(services, worker)
    limits = limits_of(parts, request.app.state.traffic, request.app.state.publisher)
    return HealthOut(
        status="ok" if overall(parts) == "ok" else "degraded",
        level=worst_level(limits),  # type: ignore[arg-type]
        limits=limits,
        version=VERSION,
        parts={
            name: PartOut(state=part.state, detail=part.detail, milliseconds=part.milliseconds)
            for name, part in parts.items()
        },
    )


@router.get("/v2/health/live")
async def get_live() -> LiveOut:
    """Whether the process answers."""
    return LiveOut(live=True)


@router.get("/v2/health/ready", response_model=ReadyOut)
def get_ready(services: Services, request: Request) -> Response:
    """Whether this process is warm: models loaded, histories followed, a first list made.

    503 before that, while the log does not answer or there are no films, and once a shutdown has
    begun.
    """
    try:
        services.log.ping()
        state = request.app.state
        ready = state.is_warm and len(services.catalogue) > 0 and not state.traffic.leaving
    except EngineUnavailableError:
        ready = False
    headers = {} if ready else {"Retry-After": "1"}
    return JsonBytes({"ready": ready}, 200 if ready else 503, headers)


@router.get("/metrics", response_class=PlainTextResponse)
def get_metrics() -> Response:
    """All instruments in Prometheus' text format."""
    return Response(exposition(), media_type=CONTENT_TYPE_LATEST)


def limits_of(
    parts: Mapping[str, PartHealth], traffic: Traffic, publisher: Publisher
) -> dict[str, str]:
    """The levels of degradation that hold, and what each means; the metric is told."""
    now = time.monotonic()
    holds = {
        level: parts[part].state != "ok"
        for level, part in {
            "no_worker": "worker",
            "no_ratings": "rating_model",
            "no_personalisation": "histories",
            "static": "recommender",
            "empty": "catalogue",
        }.items()
    }
    refused = now - publisher.refused_at < _REMEMBERED_SECONDS
    holds["read_only"] = refused or parts["event_log"].state != "ok"
    holds["shedding"] = now - traffic.shed_at < _REMEMBERED_SECONDS
    limits = {level: meaning for level, meaning in LEVELS.items() if holds.get(level)}
    for level in LEVELS:
        DEGRADATION.labels(level).set(level == worst_level(limits))
    return limits


async def watch_level(app: Any) -> None:
    """Keep the metric of the level true while nobody asks for /health."""
    while True:
        parts = await _parts(app.state.services, app.state.worker)
        limits_of(parts, app.state.traffic, app.state.publisher)
        await asyncio.sleep(_REMEMBERED_SECONDS)


async def _parts(services: ApiServices, worker: WorkerClient) -> dict[str, PartHealth]:
    probes = {
        "event_log": lambda: _log(services),
        "catalogue": lambda: _catalogue(services),
        "recommender": lambda: _model(services, MOVIE_RECOMMENDER),
        "rating_model": lambda: _model(services, MOVIE_PREDICTOR),
        "worker": await _worker(worker),
    }
    parts = await asyncio.to_thread(run_probes, probes)
    if parts["event_log"].state == "ok":  # else each question to it would wait once more
        behind = {"histories": lambda: _histories(services)}
        return parts | await asyncio.to_thread(run_probes, behind)
    return parts | {"histories": PartHealth("degraded", "wait for the event log", 0.0)}


def _log(services: ApiServices) -> str:
    services.log.ping()
    return "answers"


def _catalogue(services: ApiServices) -> str:
    count = len(services.catalogue)
    if not count:
        message = "no films yet; run `movie-mlops run data_collection`"
        raise DegradedError(message)
    return f"{count} films"


def _model(services: ApiServices, name: str) -> str:
    problem = services.loader.problems.get("manifest") or services.loader.problems.get(
        f"{name} {Alias.CHAMPION}"
    )
    if problem is not None:
        raise DegradedError(problem)
    loaded = services.loader.get(name)
    if loaded is None:
        message = f"no version of {name} is served yet; its training pipeline runs first"
        raise DegradedError(message)
    return f"{loaded.entry.algorithm} version {loaded.entry.version}"


def _histories(services: ApiServices) -> str:
    if services.follower.problem:
        raise DegradedError(services.follower.problem)
    lag = services.follower.lag()
    return f"{services.histories.user_count} viewers, {lag} events behind"


async def _worker(worker: Worker) -> Probe:
    try:
        await worker.ping()
    except EngineUnavailableError as error:
        text = str(error)

        def absent() -> str:
            raise DegradedError(text)

        return absent
    return lambda: "answers"
