"""The port of shared state: SQL that SQLite and PostgreSQL both speak, and where a server is."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class Connection(Protocol):
    """One connection; a value stands as `?` in a query, and no other `?` or `%` stands there."""

    def execute(self, query: str, arguments: Sequence[Any] = (), /) -> Any:
        """A cursor: `fetchone`, `fetchall`, `rowcount`, and rows to iterate over."""
        ...

    def executemany(self, query: str, rows: Iterable[Sequence[Any]], /) -> Any:
        """The query for each row."""
        ...


class Database(Protocol):
    """Tables that several processes share.

    Every method raises EngineUnavailableError when the engine does not answer in time.
    """

    def rows(self, query: str, arguments: Sequence[Any] = ()) -> list[Any]:
        """What a query finds."""
        ...

    def changing(self) -> AbstractContextManager[Connection]:
        """A connection within one transaction: all that is done in the block, or nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Server:
    """One database of a PostgreSQL server."""

    host: str
    port: int
    database: str
    user: str
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"PostgreSQL {self.user}@{self.host}:{self.port}/{self.database}"


State = Path | Server
"""A folder of SQLite files, or a server."""
