"""Health, readiness, metrics."""

import asyncio
from importlib.metadata import version

from fastapi import APIRouter, Response

from movie_mlops.api.dependencies import JsonBytes, Services, Worker
from movie_mlops.api.schemas.health import HealthOut, LiveOut, PartOut, ReadyOut
from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.domain.versions import MOVIE_PREDICTOR, MOVIE_RECOMMENDER, Alias
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.monitoring.health import DegradedError, Probe, overall, run_probes
from movie_mlops.monitoring.metrics import CONTENT_TYPE_LATEST, exposition

router = APIRouter(tags=["health"])
VERSION = version("movie-mlops")


@router.get("/health")
async def get_health(services: Services, worker: Worker) -> HealthOut:
    """The state of every part; always 200, see /v2/health/ready for a probe."""
    probes = {
        "event_log": lambda: _log(services),
        "catalogue": lambda: _catalogue(services),
        "recommender": lambda: _model(services, MOVIE_RECOMMENDER),
        "rating_model": lambda: _model(services, MOVIE_PREDICTOR),
        "histories": lambda: _histories(services),
        "worker": await _worker(worker),
    }
    parts = await asyncio.to_thread(run_probes, probes)
    return HealthOut(
        status="ok" if overall(parts) == "ok" else "degraded",
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
def get_ready(services: Services) -> Response:
    """Whether lists can be made: the log answers and there are films."""
    try:
        services.log.ping()
        ready = len(services.catalogue) > 0
    except EngineUnavailableError:
        ready = False
    headers = {} if ready else {"Retry-After": "1"}
    return JsonBytes({"ready": ready}, 200 if ready else 503, headers)


@router.get("/metrics", response_class=Response)
def get_metrics() -> Response:
    """All instruments in Prometheus' text format."""
    return Response(exposition(), media_type=CONTENT_TYPE_LATEST)


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
