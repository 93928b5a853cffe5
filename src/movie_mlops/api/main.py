"""The HTTP API; `uvicorn movie_mlops.api.main:app` serves it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

from movie_mlops.api.access import Keys
from movie_mlops.api.dependencies import READ, TokenBuckets, WorkerClient
from movie_mlops.api.errors import (
    RequestRefusedError,
    answer_error,
    answer_http_error,
    answer_validation_error,
)
from movie_mlops.api.gate import Gate
from movie_mlops.api.hot import HotRoutes
from movie_mlops.api.middleware import Journal, Observer, Traffic
from movie_mlops.api.routers import (
    docs,
    events,
    experiments,
    features,
    health,
    home,
    loop,
    models,
    movies,
    open_inference,
    predictions,
    traces,
)
from movie_mlops.api.routers import recommendations as lists
from movie_mlops.api.routers.events import Publisher
from movie_mlops.api.routers.page import page_router
from movie_mlops.api.schemas.openapi import openapi_of
from movie_mlops.api.server import run
from movie_mlops.domain.errors import MovieMlopsError
from movie_mlops.models.serving.recommender import ANONYMOUS
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.monitoring.metrics import TALLY, RequestMeter, watch_system
from movie_mlops.settings import Settings, load_settings

_TEXT = (
    "Recommended films, predicted ratings, and the life cycle of the models behind them. "
    "Every address that takes GET takes HEAD too: the same status and headers, without the body."
)
_FLUSH_SECONDS = 0.1


class App(FastAPI):
    """FastAPI with the hot routes in front; they hand on what they do not answer."""

    hot: HotRoutes | None = None
    described: Sequence[APIRoute] = ()

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi_of(self, self.described)
        return self.openapi_schema

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self.hot is not None and scope["type"] == "http":
            left = await self.hot(scope, receive, send)
            if left is None:
                return
            receive = left
        await super().__call__(scope, receive, send)


def create_app(
    settings: Settings, open_services: Callable[[], ApiServices], page: Path | None = None
) -> App:
    """The application; nothing is opened before its lifespan starts.

    `open_services` is called then, in a thread, and its result is started and, at the end,
    closed. `page` is the folder of the built front end.
    """
    meter = RequestMeter()
    journal, traffic = Journal(meter), Traffic(settings.max_in_flight)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services = await asyncio.to_thread(open_services)
        worker = WorkerClient(settings)
        try:
            await asyncio.to_thread(services.start)
            watch_system(settings.home)
            publisher = Publisher(services.log, settings.request_timeout_seconds)
            app.state.services, app.state.worker = services, worker
            app.state.publisher, journal.access_log = publisher, services.access_log
            application.hot = HotRoutes(
                settings, services, publisher, (journal, traffic), app.state.buckets
            )
            await asyncio.to_thread(_warm, services)
            app.state.is_warm = True
            beside = [asyncio.create_task(_flush_forever())]
            beside.append(asyncio.create_task(health.watch_level(app)))
            yield
            for task in beside:
                task.cancel()
        finally:
            TALLY.flush()
            await worker.close()
            await asyncio.to_thread(services.close)

    app = application = App(
        title="movie-mlops",
        version=health.VERSION,
        description=_TEXT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.settings, app.state.traffic, app.state.keys = settings, traffic, Keys(settings)
    app.state.is_warm = False
    app.state.buckets = TokenBuckets(settings.writes_per_minute, settings.writes_burst)
    open_to_all = [health.router, docs.router, page_router(page)]
    guarded = [
        module.router
        for module in (
            lists,
            home,
            movies,
            predictions,
            traces,
            events,
            experiments,
            features,
            models,
            loop,
            open_inference,
        )
    ]
    for router in open_to_all:
        app.include_router(router)
    for router in guarded:
        app.include_router(router, dependencies=[READ])
    routes = [
        route
        for router in (*open_to_all, *guarded)
        for route in router.routes
        if isinstance(route, APIRoute)
    ]
    app.described = routes
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
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "If-None-Match",
                "X-API-Key",
                "X-Deadline-Ms",
                "X-Position",
                "X-Request-ID",
            ],
            expose_headers=["ETag", "Retry-After", "X-Position", "X-Request-ID"],
        )
    app.add_middleware(Gate, settings=settings)
    # added last: outermost
    app.add_middleware(Observer, settings=settings, journal=journal, traffic=traffic)
    meter.expect((method, route.path) for route in routes for method in route.methods or ())
    return app


def serve(settings: Settings, listener: socket.socket | None = None) -> None:
    """Run one API process until SIGTERM; requests that have begun are answered first.

    `listener` is a bound socket, when several processes share a port or a supervisor holds it.
    """
    app = _app_of(settings)
    run(app, settings, app.state.traffic, listener)


def _warm(services: ApiServices) -> None:
    """Make a first list, so that nobody waits for what is made once."""
    services.recommender.list_for(ANONYMOUS, 10)


async def _flush_forever() -> None:
    while True:
        await asyncio.sleep(_FLUSH_SECONDS)
        TALLY.flush()


def _app_of(settings: Settings) -> App:
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
