"""Where the files of a home lie, and the number of a replica."""

import fcntl
from pathlib import Path
from typing import IO

import polars as pl
from pydantic import SecretStr

from movie_mlops.data.lake import Lake
from movie_mlops.data.object_store import MARK, ObjectStore
from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.models.serving.exposure_engines import open_exposure_store
from movie_mlops.models.serving.exposure_store import ExposureStore
from movie_mlops.settings import (
    Settings,
)
from movie_mlops.state import State, find_state

MOST_REPLICAS = 64
_ROOT = Path(__file__).resolve().parents[3]


def state_of(settings: Settings) -> State:
    """Where the processes of a home share exposures, tests and the loop's memory."""
    return find_state(settings.state_url, settings.home, secret(settings.state_password))


def open_exposures(settings: Settings, worker: str) -> ExposureStore:
    """Who was shown what; `worker` names the process that asks."""
    return open_exposure_store(state_of(settings), worker)


def find_store(settings: Settings) -> ObjectStore | None:
    """The store of the tables, where they lie in one."""
    if settings.lake_is_remote:
        return ObjectStore(settings.lake_url, settings.lake_folder)
    # from now on the folder is on its own; a store must not take it for its copy again
    (settings.lake_folder / MARK).unlink(missing_ok=True)
    return None


def erased_folder(settings: Settings) -> Path:
    """The list of those who were erased."""
    return settings.home / "var" / "erased"


def page_folder() -> Path:
    """Where the built page lies."""
    return _ROOT / "frontend" / "dist"


def read_if_there(lake: Lake, name: str) -> pl.DataFrame | None:
    """A table, or None before its first write."""
    return lake.read(name) if lake.exists(name) else None


def tracking_uri(settings: Settings) -> str:
    """MLflow's URI; the path of an SQLite file is made absolute."""
    url = settings.tracking_url
    if not url.startswith("sqlite:"):
        return url
    return f"sqlite:///{settings.path(url)}"


def online_store_url(settings: Settings) -> str:
    """Feast's online store as its repository, a folder of the home, sees it."""
    scheme, _, path = settings.online_store_url.partition(":")
    if scheme != "sqlite" or Path(path).is_absolute():
        return settings.online_store_url
    return f"sqlite:../{path}"


def secret(value: SecretStr | None) -> str | None:
    """A secret's text, for the client that needs it."""
    return None if value is None else value.get_secret_value()


_slots: list[IO[str]] = []  # held open: the kernel frees a slot when its process dies


def take_slot(folder: Path) -> int:
    """The first free replica number of this home, held until the process ends.

    Raises:
        ConfigurationError: all are taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for slot in range(MOST_REPLICAS):
        stream = (folder / f"{slot}.lock").open("a")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            continue
        _slots.append(stream)
        return slot
    message = f"all {MOST_REPLICAS} replica slots of {folder.parent.parent} are taken"
    raise ConfigurationError(message)
