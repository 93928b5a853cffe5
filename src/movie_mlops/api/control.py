"""The worker: events into the lake, schedules, and a small app for features and registry."""

import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from movie_mlops.api.errors import answer_error, answer_http_error, answer_validation_error
from movie_mlops.api.schemas.loop import LoopHistory, LoopStep, RolloutOut
from movie_mlops.api.schemas.worker import (
    BatchIn,
    Entity,
    ExperimentIn,
    PromotionIn,
    TransitionIn,
)
from movie_mlops.bootstrap import Services, build_services
from movie_mlops.domain.errors import EngineUnavailableError, MovieMlopsError
from movie_mlops.domain.interactions import parse_user_id
from movie_mlops.domain.movies import parse_movie_id
from movie_mlops.domain.versions import STAGE_TO_ALIAS, Alias, ModelVersion
from movie_mlops.features.store import check_feature, entity_features
from movie_mlops.features.views import JOIN_KEYS
from movie_mlops.monitoring.logs import configure_logging
from movie_mlops.orchestration.lock import worker_lock, writer_lock
from movie_mlops.orchestration.shapes import SHAPES
from movie_mlops.settings import Settings, lower_priority

Name = Annotated[str, Path(max_length=200)]
_QUALITY_SECONDS, _TRIM_SECONDS = 30.0, 3_600.0
_LOG = logging.getLogger(__name__)


def create_control_app(services: Services) -> FastAPI:
    """The app behind the control socket; the API in front checks keys and bounds bodies."""
    app = FastAPI(title="movie-mlops control", openapi_url=None)
    for error, answer in (
        (MovieMlopsError, answer_error),
        (HTTPException, answer_http_error),
        (RequestValidationError, answer_validation_error),
    ):
        app.add_exception_handler(error, answer)

    @app.middleware("http")
    async def keep_request_id(request: Request, forward: Any) -> Any:
        request.state.request_id = request.headers.get("x-request-id", "")
        return await forward(request)

    @app.get("/health")
    def get_health() -> dict[str, str]:
        return {"status": "ok"}

    _add_features(app, services)
    _add_registry(app, services)
    _add_pipelines(app, services)
    _add_loop(app, services)
    return app


def serve(settings: Settings) -> None:
    """Run the worker until SIGTERM; what was taken from the log is written before the end."""
    configure_logging()
    lower_priority()
    services = build_services(settings)
    socket = settings.path(settings.control_url)
    socket.parent.mkdir(parents=True, exist_ok=True)
    # the log's group has one member, and a restore must not run beside it
    with writer_lock(worker_lock(settings.home), "movie-mlops worker"), _consumers(services):
        socket.unlink(missing_ok=True)
        for shape in SHAPES.values():
            if shape.every_hours is not None:
                hours = min(shape.every_hours, settings.training_interval_hours)
                services.runner.schedule(shape.name, hours)
        app = create_control_app(services)
        app.router.lifespan_context = _warm(services)
        uvicorn.run(app, uds=str(socket), log_level="warning", access_log=False)
    services.close()


@contextmanager
def _consumers(services: Services) -> Iterator[None]:
    writer, loop, stop = services.lake_writer(), services.loop(), threading.Event()
    threads = [
        threading.Thread(target=writer.run, name="lake-writer"),
        threading.Thread(target=_keep_house, args=(services, stop), name="housekeeping"),
    ]
    for thread in threads:
        thread.start()
    loop.start()
    try:
        yield
    finally:
        stop.set()
        loop.stop()
        writer.stop()
        for thread in threads:
            thread.join()


def _keep_house(services: Services, stop: threading.Event) -> None:
    """Measure online quality, and now and then forget what is old."""
    trimmed_at = time.monotonic()
    while not stop.wait(_QUALITY_SECONDS):
        try:
            services.guard.look(services.online_quality(), datetime.now(UTC))
            if time.monotonic() - trimmed_at > _TRIM_SECONDS:
                services.trim_log(datetime.now(UTC))
                trimmed_at = time.monotonic()
        except EngineUnavailableError as error:
            _LOG.warning("housekeeping waits: %s", error)
        except Exception:  # noqa: BLE001 (it is tried again)
            _LOG.exception("housekeeping failed")


def _warm(services: Services) -> Any:
    """Import Feast beside serving, so that the first look-up does not wait for it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        threading.Thread(target=_try_ping, args=(services,), daemon=True).start()
        yield

    return lifespan


def _try_ping(services: Services) -> None:
    with suppress(MovieMlopsError):  # no repository yet: the first look-up later opens it
        services.features.ping()


def _add_features(app: FastAPI, services: Services) -> None:
    @app.get("/api/v1/features/{entity}/{entity_id}")
    def get_features(entity: Entity, entity_id: Name) -> dict[str, Any]:
        key = _key(entity, entity_id)
        names = entity_features(entity)
        found = services.features.get_entity(entity, key, names)
        return {"entity_type": entity, "entity_id": key, "features": found} | _age(services)

    @app.post("/api/v1/features/batch")
    def get_batch(body: BatchIn) -> dict[str, Any]:
        keys = [_key(body.entity_type, each) for each in body.entity_ids]
        known = {name.partition(":")[2]: name for name in entity_features(body.entity_type)}
        names = [known.get(name, name) for name in body.features]
        for name in names:
            check_feature(name)
        join_key = JOIN_KEYS[body.entity_type][0]
        rows = services.features.get_online(names, [{join_key: key} for key in keys])
        results = [{"entity_id": key, "features": row} for key, row in zip(keys, rows, strict=True)]
        return {"entity_type": body.entity_type, "results": results} | _age(services)


def _age(services: Services) -> dict[str, Any]:
    filled, limit = services.features.materialized_at, services.settings.feature_max_age_hours
    fresh = filled is not None and datetime.now(UTC) - filled < timedelta(hours=limit)
    return {"materialized_at": filled.isoformat() if filled else None, "is_stale": not fresh}


def _add_registry(app: FastAPI, services: Services) -> None:
    registry = services.registry

    @app.get("/mlflow/experiments")
    def list_experiments() -> dict[str, Any]:
        return {"experiments": registry.list_experiments()}

    @app.post("/mlflow/experiments", status_code=201)
    def create_experiment(body: ExperimentIn) -> dict[str, str]:
        made = registry.create_experiment(body.name, body.description)
        return {"experiment_id": made, "name": body.name, "description": body.description}

    @app.get("/mlflow/models")
    def list_models() -> dict[str, Any]:
        return {
            "models": [
                {
                    "name": model["name"],
                    "latest_versions": [_shown(v) for v in model["latest_versions"]],
                }
                for model in registry.list_models()
            ]
        }

    @app.get("/mlflow/models/{name}")
    def get_model(name: Name) -> dict[str, Any]:
        latest = registry.get_model_metadata(name)
        models = {model["name"]: model for model in registry.list_models()}
        versions = models[latest.name]["latest_versions"]
        return {"name": latest.name, "latest_versions": [_shown(each) for each in versions]}

    @app.post("/mlflow/models/stage-transition")
    def transition(body: TransitionIn) -> dict[str, Any]:
        if STAGE_TO_ALIAS.get(body.stage) is Alias.CHAMPION:
            services.rollout.promote(body.model_name, body.version, body.description)
            return _shown(registry.get_model_metadata(body.model_name, body.version))
        return _shown(registry.transition_stage(body.model_name, body.version, body.stage))

    @app.post("/mlflow/models/{name}/promote-to-production")
    def promote(name: Name, body: PromotionIn) -> dict[str, Any]:
        services.rollout.promote(name, body.version, body.description)
        return _shown(registry.get_model_metadata(name, body.version))


def _add_pipelines(app: FastAPI, services: Services) -> None:
    @app.post("/api/v1/pipelines/{name}/runs", status_code=202)
    def start_run(name: Name) -> dict[str, str]:
        return {"run_id": services.runner.submit(name, {}), "pipeline": name, "state": "running"}

    @app.get("/api/v1/pipelines/runs")
    def list_runs() -> dict[str, Any]:
        return {"runs": [run.to_json() for run in services.runner.runs()]}

    @app.get("/api/v1/pipelines/runs/{run_id}")
    def get_run(run_id: Name) -> dict[str, Any]:
        return services.runner.status(run_id).to_json()


def _add_loop(app: FastAPI, services: Services) -> None:
    store = services.loop_store

    @app.get("/api/v1/loop/history")
    def get_history(limit: int = 100, cause: str | None = None) -> LoopHistory:
        noted = store.history(limit, cause)
        return LoopHistory(
            items=[LoopStep(event_id=each.event_id, **asdict(each.event)) for each in noted],
            rollouts=[RolloutOut(**asdict(each)) for each in store.rollouts()],
            stopped=store.stopped(),
        )

    @app.post("/api/v1/loop/{model}/resume")
    def resume(model: Name) -> dict[str, Any]:
        return {"model_name": model, "resumed": services.resume_loop(model)}


def _key(entity: Entity, text: int | str) -> int | str:
    return parse_movie_id(text) if entity == "movie" else parse_user_id(text)


def _shown(version: ModelVersion) -> dict[str, Any]:
    """A version as JSON, with the guide's stage word beside the aliases."""
    stages = (stage for stage, alias in STAGE_TO_ALIAS.items() if alias in version.aliases)
    return {**asdict(version), "stage": next(stages, "None")}
