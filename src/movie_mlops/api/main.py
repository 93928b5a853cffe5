"""The HTTP API; `uvicorn movie_mlops.api.main:app` serves it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import ceil
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from movie_mlops.api.dependencies import TokenBuckets, WorkerClient
from movie_mlops.api.errors import (
    RequestRefusedError,
    answer_error,
    answer_http_error,
    answer_validation_error,
)
from movie_mlops.api.middleware import Gate, Observer
from movie_mlops.api.routers import events, features, health, models, movies, predictions
from movie_mlops.api.routers import recommendations as lists
from movie_mlops.api.routers.page import page_router
from movie_mlops.api.schemas.problems import Problem
from movie_mlops.domain.errors import MovieMlopsError
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.monitoring.metrics import RequestMeter, watch_system
from movie_mlops.settings import Settings, load_settings

_TEXT = "Recommended films, predicted ratings, and the life cycle of the models behind them."


def create_app(
    settings: Settings, open_services: Callable[[], ApiServices], page: Path | None = None
) -> FastAPI:
    """The application; nothing is opened before its lifespan starts.

    `open_services` is called then, in a thread, and its result is started and, at the end,
    closed. `page` is the folder of the built front end.
    """
    meter = RequestMeter()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services = await asyncio.to_thread(open_services)
        worker = WorkerClient(settings)
        try:
            await asyncio.to_thread(services.start)
            watch_system(settings.home)
            app.state.services, app.state.worker = services, worker
            yield
        finally:
            await worker.close()
            await asyncio.to_thread(services.close)

    app = FastAPI(
        title="movie-mlops",
        version=health.VERSION,
        description=_TEXT,
        lifespan=lifespan,
        responses={"4XX": {"model": Problem}, "503": {"model": Problem}},
    )
    app.state.settings = settings
    app.state.buckets = TokenBuckets(settings.writes_per_minute, settings.writes_burst)
    routers = [
        module.router for module in (health, lists, movies, predictions, events, features, models)
    ]
    routers.append(page_router(page))
    for router in routers:
        app.include_router(router)
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    for error, answer in (
        (MovieMlopsError, answer_error),
        (RequestRefusedError, answer_error),
        (HTTPException, answer_http_error),
        (RequestValidationError, answer_validation_error),
    ):
        app.add_exception_handler(error, answer)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Content-Type", "Idempotency-Key", "X-Position", "X-API-Key"],
            expose_headers=["X-Position", "X-Request-ID", "Retry-After"],
        )
    app.add_middleware(Gate, settings=settings)
    app.add_middleware(Observer, settings=settings, meter=meter)  # added last: outermost
    meter.expect((method, route.path) for route in routes for method in route.methods or ())
    return app


def serve(settings: Settings) -> None:
    """Run one API process until SIGTERM; requests that have begun are answered first."""
    uvicorn.run(
        _app_of(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=ceil(settings.request_timeout_seconds),
    )


def _app_of(settings: Settings) -> FastAPI:
    from movie_mlops import bootstrap  # noqa: PLC0415 (tests make the app without it)

    return create_app(
        settings, lambda: bootstrap.open_api_services(settings), bootstrap.page_folder()
    )


def __getattr__(name: str) -> Any:
    """Make `app` when a server asks for it, so that importing this module stays cheap."""
    if name != "app":
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    app = globals()["app"] = _app_of(load_settings())
    return app
