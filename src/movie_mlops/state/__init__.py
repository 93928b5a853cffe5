"""Where a home's processes share what they must all know: the one place that reads that URL."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.state.base import Connection, Database, Server, State

__all__ = ["Connection", "Database", "Server", "State", "find_state"]

_USE = (
    "use sqlite:FOLDER or postgresql://USER@HOST:PORT/DATABASE; "
    "the password goes into MOVIE_MLOPS_STATE_PASSWORD"
)


def find_state(url: str, home: Path, password: str | None = None) -> State:
    """What the URL names: a folder for SQLite files, seen from `home`, or a PostgreSQL database.

    Nothing is opened; the stores are opened on it, `open_exposure_store` and `open_loop_store`.

    Raises:
        ConfigurationError: unknown scheme, a password in the URL, or no host or database.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite":
        return (home / rest.removeprefix("///")).absolute()
    server = _server(url, password) if scheme == "postgresql" else None
    if server is None:
        shown = url if "@" not in url else f"{scheme}://…@{url.rpartition('@')[2]}"
        message = f"MOVIE_MLOPS_STATE_URL={shown}: {_USE}"
        raise ConfigurationError(message)
    return server


def _server(url: str, password: str | None) -> Server | None:
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
    except ValueError:
        return None
    database = unquote(parts.path.removeprefix("/"))
    if parts.password is not None or not (parts.hostname and parts.username and database):
        return None
    return Server(parts.hostname, port, database, unquote(parts.username), password)
