"""The one place that opens the exposures, in the engine that the home's state URL names."""

from pathlib import Path

from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.models.serving.exposure_sqlite import SqliteExposureStore
from movie_mlops.models.serving.exposure_store import KEPT_RECORDS, ExposureStore
from movie_mlops.state import State

FILE = "exposures.db"


def open_exposure_store(
    state: State, worker: str, kept_records: int = KEPT_RECORDS
) -> ExposureStore:
    """The exposures of a home; `worker` names this process, `kept_records` bounds all of them.

    Raises:
        ConfigurationError: PostgreSQL's client is missing.
        EngineUnavailableError: the file cannot be opened; PostgreSQL is asked at the first use.
    """
    if isinstance(state, Path):
        return SqliteExposureStore(state / FILE, worker, kept_records)
    try:
        from movie_mlops.models.serving.exposure_postgresql import (  # noqa: PLC0415 (an extra)
            PostgresqlExposureStore,
        )
    except ImportError as error:
        message = (
            f"MOVIE_MLOPS_STATE_URL=postgresql://… needs PostgreSQL's client ({error}): "
            "pip install 'movie-mlops[stack]'"
        )
        raise ConfigurationError(message) from error
    return PostgresqlExposureStore(state, worker, kept_records)
