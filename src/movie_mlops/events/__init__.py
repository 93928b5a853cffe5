"""The event log: the one place that opens one by URL."""

from pathlib import Path

from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.events.base import EventLog
from movie_mlops.events.schemas import TOPICS
from movie_mlops.events.sqlite import SqliteEventLog

__all__ = ["EventLog", "open_event_log"]


def open_event_log(url: str, home: Path, max_bytes: int) -> EventLog:
    """The log that the URL names; relative paths lie in `home`, `max_bytes` bounds the embedded.

    Raises:
        ConfigurationError: unknown scheme.
        EngineUnavailableError: the log cannot be opened.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite":
        return SqliteEventLog(home / rest.removeprefix("///"), TOPICS, max_bytes)
    message = f"MOVIE_MLOPS_EVENTS_URL={url}: no event log has this scheme; use sqlite:PATH"
    raise ConfigurationError(message)
