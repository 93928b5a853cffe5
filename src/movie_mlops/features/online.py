"""The online stores below Feast, by URL: how Feast is told of one, and how an entity leaves it."""

import sqlite3
import struct
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from movie_mlops.domain.errors import ConfigurationError

PROJECT = "movie_mlops"
PASSWORD_KEY = "MOVIE_MLOPS_ONLINE_STORE_PASSWORD"  # noqa: S105 (the name of a key)
_TIMEOUT_SECONDS = 2


class OnlineStore(Protocol):
    """One store of latest values."""

    def configuration(self) -> str:
        """The lines of `online_store:` in Feast's YAML; a secret stands there as `${KEY}`."""
        ...

    def erase(self, join_key: str, key: str, views: Sequence[str]) -> int:
        """Remove a text-keyed entity; how many values the store had of it."""
        ...


def open_online_store(repository: Path, url: str, password: str | None = None) -> OnlineStore:
    """The store that the URL names, seen from the repository; nothing is connected yet.

    Raises:
        ConfigurationError: unknown scheme, or no host.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite":
        return SqliteOnline(repository, rest)
    parts = urlsplit(url)
    if scheme == "redis" and parts.hostname:
        return RedisOnline(
            parts.hostname, parts.port or 6379, int(parts.path.strip("/") or 0), password
        )
    message = (
        f"MOVIE_MLOPS_ONLINE_STORE_URL={url}: use sqlite:PATH or redis://HOST:PORT[/DB]; "
        f"the password goes into {PASSWORD_KEY}"
    )
    raise ConfigurationError(message)


class SqliteOnline:
    """A file; a relative path is one from Feast's repository."""

    def __init__(self, repository: Path, path: str) -> None:
        self._path, self._file = path, repository / path

    def configuration(self) -> str:
        """See the port."""
        return f"  type: sqlite\n  path: {self._path}\n"

    def erase(self, join_key: str, key: str, views: Sequence[str]) -> int:
        """See the port."""
        del join_key
        encoded = key.encode()
        # Feast's serialization 3 ends with the length of the value and the value
        ending = struct.pack("<I", len(encoded)) + encoded
        gone = 0
        if not self._file.is_file():
            return 0
        with closing(sqlite3.connect(self._file)) as connection:
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            there = {name for (name,) in found.fetchall()}
            for view in views:
                if (table := f"{PROJECT}_{view}") in there:
                    query = f'DELETE FROM "{table}" WHERE substr(entity_key, ?) = ?'  # noqa: S608 (ours)
                    gone += connection.execute(query, (-len(ending), ending)).rowcount
            connection.commit()
        return gone


class RedisOnline:
    """A Redis server; an entity is one hash there, with the values of all views."""

    def __init__(self, host: str, port: int, database: int, password: str | None) -> None:
        self._host, self._port, self._database, self._password = host, port, database, password

    def configuration(self) -> str:
        """See the port."""
        parameters = [
            f"{self._host}:{self._port}",
            f"db={self._database}",
            # who asks for features waits for no store: two seconds, and no second try
            f"socket_timeout={_TIMEOUT_SECONDS},socket_connect_timeout={_TIMEOUT_SECONDS}",
            "retry=null",
        ]
        if self._password is not None:
            parameters.append(f"password=${{{PASSWORD_KEY}}}")
        return f"  type: redis\n  connection_string: {','.join(parameters)}\n"

    def erase(self, join_key: str, key: str, views: Sequence[str]) -> int:
        """See the port; all views of the entity lie in one hash."""
        from feast.infra.online_stores.helpers import _redis_key  # noqa: PLC0415 (seconds to import)
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey  # noqa: PLC0415
        from feast.protos.feast.types.Value_pb2 import Value  # noqa: PLC0415

        entity = EntityKey(join_keys=[join_key], entity_values=[Value(string_val=key)])
        name = _redis_key(PROJECT, entity, 3)
        del views
        client = self._client()
        try:
            fields = client.hkeys(name)
            client.delete(name)
        finally:
            client.close()
        return sum(field.startswith(b"_ts:") for field in fields)

    def _client(self) -> Any:
        from redis import Redis  # noqa: PLC0415 (only where the store is one)
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415

        return Redis(
            self._host,
            self._port,
            self._database,
            self._password,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
