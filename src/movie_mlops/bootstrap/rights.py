"""What a viewer may ask for: to be forgotten, and to know where an answer came from."""

from typing import TYPE_CHECKING

from movie_mlops.bootstrap.home import Home
from movie_mlops.bootstrap.places import exposures_path

if TYPE_CHECKING:
    from movie_mlops.pipelines.erasure import UserErasure


def user_erasure(home: Home) -> "UserErasure":
    """What removes one viewer from this home."""
    from movie_mlops.pipelines.erasure import ErasedFiles, UserErasure

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
        files=ErasedFiles(
            events=path(settings.events_url) if is_embedded else None,
            exposures=exposures_path(settings),
            online=path(settings.online_store_url) if is_local else None,
            work=home.work,
            receipts=var / "receipts",
        ),
        history_length=settings.history_length,
    )
