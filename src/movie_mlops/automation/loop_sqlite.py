"""The loop's tables in one SQLite file of the home."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from movie_mlops.domain.errors import EngineUnavailableError

_BUSY_SECONDS = 5.0


class LoopFile:
    """One SQLite file; every call opens it anew, so any process of the home may use it.

    What is written survives a power cut.
    """

    def __init__(self, path: Path, schema: Sequence[str]) -> None:
        self._path, self._schema = path, schema
        self._is_made = False

    def rows(self, query: str, arguments: Sequence[Any] = ()) -> list[Any]:
        """See the port."""
        with self._open() as connection:
            return connection.execute(query, arguments).fetchall()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """See the port."""
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(
                sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                if not self._is_made:
                    script = "; ".join(("BEGIN IMMEDIATE", *self._schema, "COMMIT;"))
                    connection.executescript(script)
                    self._is_made = True
                yield connection
        except (sqlite3.Error, OSError) as error:
            message = f"the loop's records in {self._path} do not answer: {error}"
            raise EngineUnavailableError(message) from error
