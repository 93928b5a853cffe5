"""What a viewer may ask for: to be forgotten, and to know where an answer came from."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from movie_mlops.bootstrap.home import Home
from movie_mlops.bootstrap.places import open_exposures, state_of

if TYPE_CHECKING:
    from movie_mlops.pipelines.erasure import UserErasure
    from movie_mlops.pipelines.rebuilding import Rebuilding
    from movie_mlops.pipelines.tracing import Tracing


def user_erasure(home: Home) -> "UserErasure":
    """What removes one viewer from this home."""
    from movie_mlops.models.serving.exposure_engines import FILE
    from movie_mlops.pipelines.erasure import ErasedFiles, UserErasure

    state = state_of(home.settings)
    settings, var = home.settings, home.settings.home / "var"
    path = settings.path
    is_embedded = settings.events_url.startswith("sqlite:")
    is_local = settings.online_store_url.startswith("sqlite:")
    return UserErasure(
        erased=home.erased,
        log=home.log,
        lake=home.lake,
        snapshots=home.snapshots,
        features=home.features,
        registry=home.registry,
        serving=home.serving,
        open_exposures=partial(open_exposures, settings, "erasure"),
        files=ErasedFiles(
            events=path(settings.events_url) if is_embedded else None,
            exposures=state / FILE if isinstance(state, Path) else None,
            online=path(settings.online_store_url) if is_local else None,
            work=home.work,
            receipts=var / "receipts",
        ),
        history_length=settings.history_length,
        retention=timedelta(days=settings.event_retention_days),
        keys={key.name: key.subject for key in settings.api_keys if key.subject is not None},
    )


@contextmanager
def answer_tracing(home: Home) -> "Iterator[Tracing]":
    """What tells where an answer of this home came from."""
    from movie_mlops.models.serving.exposures import ExposureLog
    from movie_mlops.models.serving.knowledge import Knowledge
    from movie_mlops.pipelines.tracing import Tracing

    store = open_exposures(home.settings, "trace")
    try:
        yield Tracing(
            exposures=ExposureLog(store),
            registry=home.registry,
            snapshots=home.snapshots,
            knowledge=Knowledge(home.lake, home.log, home.erased, home.settings.history_length),
            serving=home.serving,
        )
    finally:
        store.close()


def rebuilding(home: Home) -> "Rebuilding":
    """What builds a model version of this home again."""
    from movie_mlops.pipelines.rebuilding import Rebuilding

    return Rebuilding(home.snapshots, home.registry, home.settings.seed)
