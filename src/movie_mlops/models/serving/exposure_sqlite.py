"""Exposures in one SQLite file, which all processes of a home on one machine share."""

import fcntl
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.models.serving.exposure_store import (
    KEPT_RECORDS,
    KEPT_SECONDS,
    KEPT_SUBJECTS,
    Batch,
    ExposureStore,
)

_BUSY_SECONDS = 2.0
_LOOK_INSTRUCTIONS = 1_000  # of SQLite's machine between two looks at the clock
_PRUNED_AT_ONCE = 1_000
_LOG = logging.getLogger(__name__)

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS batches ("
    " number INTEGER PRIMARY KEY AUTOINCREMENT, begin_ms INTEGER NOT NULL,"
    " end_ms INTEGER NOT NULL, worker TEXT NOT NULL, records INTEGER NOT NULL, body BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS batch_ends ON batches (end_ms)",
    "CREATE TABLE IF NOT EXISTS kept (one INTEGER PRIMARY KEY CHECK (one = 1), records INTEGER)",
    "INSERT OR IGNORE INTO kept VALUES (1, 0)",
    "CREATE TRIGGER IF NOT EXISTS batch_added AFTER INSERT ON batches"
    " BEGIN UPDATE kept SET records = records + NEW.records; END",
    "CREATE TRIGGER IF NOT EXISTS batch_removed AFTER DELETE ON batches"
    " BEGIN UPDATE kept SET records = records - OLD.records; END",
    "CREATE TABLE IF NOT EXISTS experiments ("
    " name TEXT PRIMARY KEY, definition BLOB NOT NULL, started_ms INTEGER NOT NULL,"
    " changed INTEGER NOT NULL DEFAULT 0, joined_ms INTEGER NOT NULL DEFAULT 0,"
    " subjects INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS arms ("
    " experiment TEXT NOT NULL, arm TEXT NOT NULL, version TEXT NOT NULL,"
    " exposures INTEGER NOT NULL, PRIMARY KEY (experiment, arm, version)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS subjects ("
    " experiment TEXT NOT NULL, subject BLOB NOT NULL, arm TEXT NOT NULL,"
    " first_ms INTEGER NOT NULL, crossed INTEGER NOT NULL DEFAULT 0,"
    " converted INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (experiment, subject)) WITHOUT ROWID",
    "CREATE TRIGGER IF NOT EXISTS subject_added AFTER INSERT ON subjects BEGIN"
    " UPDATE experiments SET subjects = subjects + 1 WHERE name = NEW.experiment; END",
)
_ADD_SUBJECT = (
    "INSERT INTO subjects (experiment, subject, arm, first_ms) SELECT name, ?, ?, ?"  # noqa: S608 (ours)
    f" FROM experiments WHERE name = ? AND subjects < {KEPT_SUBJECTS}"
    " ON CONFLICT DO UPDATE SET crossed = max(crossed, arm <> excluded.arm),"
    " first_ms = min(first_ms, excluded.first_ms)"
)
_ADD_EXPOSURES = (
    "INSERT INTO arms VALUES (?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET exposures = exposures + excluded.exposures"
)
_OLDEST_TOO_MANY = (
    "DELETE FROM batches WHERE number IN (SELECT number FROM (SELECT number,"  # noqa: S608 (ours)
    " sum(records) OVER (ORDER BY number) - records AS before FROM"
    f" (SELECT number, records FROM batches ORDER BY number LIMIT {_PRUNED_AT_ONCE}))"
    " WHERE before < ?)"
)


class _Damaged(sqlite3.Error):
    """The file is no database, or one that is broken."""


class SqliteExposureStore(ExposureStore):
    """One SQLite file; every call opens it anew but `write`, which one thread makes.

    A kill loses nothing that was written; a power cut may lose the last moments. What is
    deleted is overwritten. `kept_records` bounds the records of all processes together. A file
    that is damaged is set aside and begun anew: exposures may be lost, serving must not wait.
    """

    def __init__(self, path: Path, worker: str, kept_records: int = KEPT_RECORDS) -> None:
        self._path, self._worker, self._kept_records = path, worker, kept_records
        self._lock: IO[str] | None = None
        self._damaged = path.with_suffix(".damaged")
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._translated():
            self._writer = self._opened()

    def write(self, batch: Batch) -> None:
        """See the port."""
        row = (batch.begin_ms, batch.end_ms, self._worker, batch.records, batch.body)
        insert = (
            "INSERT INTO batches (begin_ms, end_ms, worker, records, body) VALUES (?, ?, ?, ?, ?)"
        )
        with self._translated():
            if not batch.subjects and not batch.exposures:
                self._writer.execute(insert, row)  # one statement, one wait for the interpreter
                return
            with _transaction(self._writer):
                self._writer.execute(insert, row)
                self._writer.executemany(
                    _ADD_SUBJECT, [(*rest, test) for test, *rest in batch.subjects]
                )
                self._writer.executemany(_ADD_EXPOSURES, batch.exposures)

    def prune(self) -> None:
        """See the port."""
        oldest = round(1000 * (time.time() - KEPT_SECONDS))
        self._forget_damaged(KEPT_SECONDS)
        with self._translated():
            self._writer.execute("DELETE FROM batches WHERE end_ms < ?", (oldest,))
            for _ in range(100):
                [(records,)] = self._writer.execute("SELECT records FROM kept")
                if records <= self._kept_records:
                    return
                self._writer.execute(_OLDEST_TOO_MANY, (records - self._kept_records,))

    def forget_deleted(self) -> None:
        """A damaged file that was set aside goes; what is deleted is overwritten at once."""
        self._forget_damaged()

    def _forget_damaged(self, older_seconds: float = 0.0) -> None:
        """Remove a file that was set aside so long ago: it holds what viewers saw, too."""
        with suppress(FileNotFoundError):
            if time.time() - self._damaged.stat().st_mtime >= older_seconds:
                self._damaged.unlink()

    def bodies(
        self, request_id: str, between_ms: tuple[int, int] | None, limit_seconds: float
    ) -> Iterator[bytes]:
        """See the port."""
        oldest = round(1000 * (time.time() - KEPT_SECONDS))
        begin, end = between_ms or (oldest, 2**62)
        order = "end_ms" if between_ms else "end_ms DESC"
        query = (
            "SELECT body FROM batches WHERE end_ms BETWEEN ? AND ? AND instr(body, ?) > 0"  # noqa: S608 (ours)
            f" ORDER BY {order}"
        )
        give_up = time.monotonic() + limit_seconds
        with self._translated(), closing(self._connect()) as reader:
            reader.set_progress_handler(lambda: time.monotonic() > give_up, _LOOK_INSTRUCTIONS)
            with suppress(sqlite3.OperationalError):  # interrupted by the clock
                for (body,) in reader.execute(
                    query, (max(begin, oldest), end, request_id.encode())
                ):
                    yield body

    def bodies_since(self, since_ms: int) -> Iterator[bytes]:
        """See the port."""
        query = "SELECT body FROM batches WHERE end_ms >= ? ORDER BY number"
        with self.reading() as connection:
            for (body,) in connection.execute(query, (since_ms,)):
                yield body

    def numbers_with(self, text: str) -> list[int]:
        """See the port."""
        query = "SELECT number FROM batches WHERE instr(body, ?) > 0"
        return [number for (number,) in self.rows(query, (text.encode(),))]

    def lead(self) -> bool:
        """See the port."""
        if self._lock is None:
            stream = self._path.with_suffix(".lock").open("a")
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.close()
            else:
                self._lock = stream
        return self._lock is not None

    def close(self) -> None:
        """See the port."""
        self._writer.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def rows(self, query: str, arguments: Sequence[Any] = ()) -> list[Any]:
        """See the port."""
        with self.reading() as connection:
            return connection.execute(query, arguments).fetchall()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """See the port."""
        with self._translated(), closing(self._connect()) as connection:
            yield connection

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """See the port."""
        with self._translated(), closing(self._connect()) as connection, _transaction(connection):
            yield connection

    def _opened(self) -> sqlite3.Connection:
        """The writer; processes open one after another, so that one file is set aside."""
        with self._path.with_suffix(".opening").open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            with suppress(_Damaged):
                return self._furnished()
            _LOG.warning("%s is damaged and set aside as %s", self._path, self._damaged.name)
            self._path.replace(self._damaged)
            self._damaged.touch()
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            return self._furnished()

    def _furnished(self) -> sqlite3.Connection:
        try:
            made = self._connect()
            with _closed_on_error(made):
                _with_patience(lambda: _furnish(made))
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise _Damaged from error
            raise
        return made

    def _connect(self) -> sqlite3.Connection:
        made = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        with _closed_on_error(made):
            made.execute("PRAGMA synchronous = NORMAL")
            made.execute("PRAGMA secure_delete = ON")
        return made

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            message = f"the exposures in {self._path} do not answer: {error}"
            raise EngineUnavailableError(message) from error


@contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _furnish(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    with _transaction(connection):
        for statement in _SCHEMA:
            connection.execute(statement)


def _with_patience(work: Callable[[], object]) -> None:
    """Another process may switch or create at this moment, and SQLite does not wait for that."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            work()
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
