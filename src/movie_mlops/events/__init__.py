"""The event log: the one place that opens one by URL."""

from pathlib import Path

from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.events.base import EventLog
from movie_mlops.events.schemas import TOPICS
from movie_mlops.events.sqlite import SqliteEventLog

__all__ = ["EventLog", "open_event_log"]


def open_event_log(url: str, home: Path, max_bytes: int) -> EventLog:
    """The log that the URL names: `sqlite:PATH` or `kafka://HOST:PORT[,HOST:PORT][/PREFIX]`.

    Relative paths lie in `home`; `max_bytes` bounds the embedded log, Kafka bounds itself. A
    prefix keeps the homes apart that share one Kafka: its topics and groups begin with it.

    Raises:
        ConfigurationError: unknown scheme, a broker without port, or Kafka's client is missing.
        EngineUnavailableError: the log cannot be opened.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite":
        return SqliteEventLog(home / rest.removeprefix("///"), TOPICS, max_bytes)
    if scheme == "kafka":
        return _kafka(url)
    message = (
        f"MOVIE_MLOPS_EVENTS_URL={url}: no event log has this scheme; "
        "use sqlite:PATH or kafka://HOST:PORT"
    )
    raise ConfigurationError(message)


def _kafka(url: str) -> EventLog:
    servers, _, prefix = url.removeprefix("kafka:").removeprefix("//").partition("/")
    if not all(server.rpartition(":")[2].isdecimal() for server in servers.split(",")):
        message = f"MOVIE_MLOPS_EVENTS_URL={url}: write it as kafka://HOST:PORT[,HOST:PORT]"
        raise ConfigurationError(message)
    try:
        from movie_mlops.events.kafka import KafkaEventLog  # noqa: PLC0415 (an extra)
    except ImportError as error:
        message = (
            f"MOVIE_MLOPS_EVENTS_URL={url} needs Kafka's client ({error}): "
            "pip install 'movie-mlops[kafka]'"
        )
        raise ConfigurationError(message) from error
    return KafkaEventLog(servers, TOPICS, prefix)
