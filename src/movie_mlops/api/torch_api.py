"""The PyTorch API: scores, lists and likeness by the served network, beside the main API."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import ceil
from typing import Annotated, Any

import msgspec
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from movie_mlops.api.access import Keys
from movie_mlops.api.dependencies import READ, JsonBytes, MaySeeOf, Services
from movie_mlops.api.errors import (
    RequestRefusedError,
    answer_error,
    answer_http_error,
    answer_validation_error,
    request_id_of,
)
from movie_mlops.api.gate import Gate
from movie_mlops.api.middleware import Journal, Observer, Traffic
from movie_mlops.api.routers.health import VERSION, get_live, get_metrics, get_ready
from movie_mlops.api.schemas.health import LiveOut, PartOut, PartsOut, ReadyOut
from movie_mlops.api.schemas.neural import (
    NeuralRecommendations,
    NeuralSimilar,
    PredictIn,
    Predictions,
    RecommendIn,
    SimilarIn,
)
from movie_mlops.api.schemas.problems import Problem
from movie_mlops.domain.errors import MovieMlopsError
from movie_mlops.domain.interactions import UserId
from movie_mlops.domain.movies import MovieId
from movie_mlops.domain.recommendations import RecommendationList
from movie_mlops.domain.versions import NEURAL_RECOMMENDER
from movie_mlops.models import algorithms
from movie_mlops.models.algorithms.networks import network_module
from movie_mlops.models.serving.neural import NeuralModels, NeuralService
from movie_mlops.models.serving.recommender import STATIC_VERSION
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.monitoring.health import DegradedError, overall, run_probes
from movie_mlops.monitoring.metrics import TALLY, RequestMeter, watch_system
from movie_mlops.settings import Settings

TORCH_PORT = 8001
_TEXT = "The recommender network in PyTorch, over the same films, viewers and events."
_FLUSH_SECONDS = 0.1

router = APIRouter()


async def get_neural(request: Request) -> NeuralService:
    """The open service of this process."""
    service: NeuralService = request.app.state.neural
    return service


Neural = Annotated[NeuralService, Depends(get_neural)]


@router.post("/predict", response_model=Predictions, dependencies=[READ])
def predict(body: PredictIn, neural: Neural, sees: MaySeeOf, request: Request) -> Response:
    """The network's score of each film for this user; any user without events is new."""
    sees(body.user_id)
    movie_ids = [MovieId(film) for film in body.movie_ids]
    scores, version = neural.predict(UserId(body.user_id), movie_ids)
    return JsonBytes(
        {
            "user_id": body.user_id,
            "predictions": [
                {"movie_id": film, "score": score}
                for film, score in zip(movie_ids, scores, strict=True)
            ],
            **_answered(neural, version, request),
        }
    )


@router.post("/recommend", response_model=NeuralRecommendations, dependencies=[READ])
def recommend(
    body: RecommendIn, neural: Neural, services: Services, sees: MaySeeOf, request: Request
) -> Response:
    """The k best films for this user."""
    sees(body.user_id)
    made = neural.recommend(UserId(body.user_id), body.k, exclude_seen=body.exclude_seen)
    _note_shown(services, neural, made, request_id_of(request))
    return JsonBytes(
        {
            "user_id": body.user_id,
            "k": body.k,
            "path": made.path,
            "items": [
                {
                    "movie_id": item.movie_id,
                    "title": services.catalogue.title(item.movie_id, "en") or str(item.movie_id),
                    "score": item.score,
                    "because": item.because,
                }
                for item in made.items
            ],
            **_answered(neural, made.model_version, request),
        }
    )


@router.post("/similar", response_model=NeuralSimilar, dependencies=[READ])
def similar(body: SimilarIn, neural: Neural, services: Services, request: Request) -> Response:
    """The k films most like this one."""
    found = neural.similar(MovieId(body.movie_id), body.k)
    loaded = neural.models.get()
    return JsonBytes(
        {
            "movie_id": body.movie_id,
            "items": [
                {
                    "movie_id": item.movie_id,
                    "title": services.catalogue.title(item.movie_id, "en") or str(item.movie_id),
                    "similarity": item.score,
                }
                for item in found
            ],
            **_answered(neural, loaded.entry.version if loaded else STATIC_VERSION, request),
        }
    )


@router.get("/health")
def get_health(services: Services, neural: Neural, request: Request) -> PartsOut:
    """The state of every part; always 200, see /v2/health/ready for a probe."""
    parts = run_probes(
        {
            "event_log": lambda: _log(services),
            "catalogue": lambda: _catalogue(services),
            "network": lambda: _network(neural, request.app.state.device),
            "histories": lambda: _histories(services),
        }
    )
    return PartsOut(
        status="ok" if overall(parts) == "ok" else "degraded",
        version=VERSION,
        parts={
            name: PartOut(state=part.state, detail=part.detail, milliseconds=part.milliseconds)
            for name, part in parts.items()
        },
    )


router.add_api_route("/v2/health/live", get_live, response_model=LiveOut)
router.add_api_route("/v2/health/ready", get_ready, response_model=ReadyOut)
router.add_api_route("/metrics", get_metrics, response_class=Response)


def create_torch_app(
    settings: Settings, open_services: Callable[[], ApiServices], device: str | None = None
) -> FastAPI:
    """The application; nothing is opened before its lifespan starts.

    `open_services` as for the main API. `device` None takes a GPU when there is one.

    Raises:
        ConfigurationError: PyTorch is not installed, or there is no such device.
    """
    torch_scorer = network_module("scorer").torch_scorer
    chosen = str(network_module("devices").choose_device(device))
    meter = RequestMeter()
    journal, traffic = Journal(meter), Traffic(settings.max_in_flight)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services = await asyncio.to_thread(open_services)
        models = NeuralModels(
            services.loader,
            settings.path(settings.serving_url),
            algorithms.load,
            lambda model: torch_scorer(model, chosen),
        )
        try:
            await asyncio.to_thread(services.start)
            watch_system(settings.home)
            app.state.services, journal.access_log = services, services.access_log
            app.state.neural = NeuralService(models, services)
            flushing = asyncio.create_task(_flush_forever())
            yield
            flushing.cancel()
        finally:
            TALLY.flush()
            await asyncio.to_thread(services.close)

    app = FastAPI(
        title="movie-mlops PyTorch API",
        version=VERSION,
        description=_TEXT,
        lifespan=lifespan,
        responses={"4XX": {"model": Problem}, "503": {"model": Problem}},
    )
    app.state.settings, app.state.traffic, app.state.device = settings, traffic, chosen
    app.state.keys, app.state.is_warm = Keys(settings), True  # its lifespan ends when all is open
    app.include_router(router)
    for error, answer in (
        (MovieMlopsError, answer_error),
        (RequestRefusedError, answer_error),
        (HTTPException, answer_http_error),
        (RequestValidationError, answer_validation_error),
    ):
        app.add_exception_handler(error, answer)
    app.add_middleware(Gate, settings=settings)
    # added last: outermost
    app.add_middleware(Observer, settings=settings, journal=journal, traffic=traffic)
    routes = [route for route in router.routes if isinstance(route, APIRoute)]
    meter.expect((method, route.path) for route in routes for method in route.methods or ())
    return app


def serve(settings: Settings, port: int = TORCH_PORT, device: str | None = None) -> None:
    """Run the PyTorch API until SIGTERM; requests that have begun are answered first.

    Raises:
        ConfigurationError: PyTorch is not installed, or there is no such device.
    """
    from movie_mlops import bootstrap  # noqa: PLC0415 (tests make the app without it)

    app = create_torch_app(settings, lambda: bootstrap.open_api_services(settings), device)
    uvicorn.run(
        app,
        host=settings.host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=ceil(settings.request_timeout_seconds),
    )


async def _flush_forever() -> None:
    while True:
        await asyncio.sleep(_FLUSH_SECONDS)
        TALLY.flush()


def _answered(neural: NeuralService, version: str, request: Request) -> dict[str, Any]:
    return {
        "model": neural.models.name,
        "model_version": version,
        "request_id": request_id_of(request),
    }


def _note_shown(
    services: ApiServices, neural: NeuralService, made: RecommendationList, request_id: str
) -> None:
    """Keep what was shown for the trace; a network's lists count in no figure of the other API."""
    shown, loaded = services.audience.trial.list_shown(made), neural.models.get()
    if neural.models.name == NEURAL_RECOMMENDER and loaded is not None:
        entry, is_its_own = loaded.entry, made.model_version == loaded.entry.version
        shown = msgspec.structs.replace(
            shown,
            model=NEURAL_RECOMMENDER,
            algorithm=entry.algorithm if is_its_own else "",
            card_sha256=entry.card_sha256 if is_its_own else "",
        )
    services.audience.exposures.note(request_id, shown)


def _log(services: ApiServices) -> str:
    services.log.ping()
    return "answers"


def _catalogue(services: ApiServices) -> str:
    if not len(services.catalogue):
        message = "no films yet; run `movie-mlops run data_collection`"
        raise DegradedError(message)
    return f"{len(services.catalogue)} films"


def _network(neural: NeuralService, device: str) -> str:
    loaded = neural.models.get()
    if neural.models.problem:
        raise DegradedError(neural.models.problem)
    served = f"{loaded.entry.algorithm} version {loaded.entry.version}" if loaded else "nothing"
    if neural.models.name != NEURAL_RECOMMENDER:
        message = f"no network yet, {served} answers; run `movie-mlops run neural_training`"
        raise DegradedError(message)
    return f"{served} on {device}"


def _histories(services: ApiServices) -> str:
    if services.follower.problem:
        raise DegradedError(services.follower.problem)
    return f"{services.histories.user_count} viewers, {services.follower.lag()} events behind"
