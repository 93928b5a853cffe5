"""Tables in PostgreSQL: a connection that writes and one that reads, renewed after a fault."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2 import errors

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.state.base import Server
from movie_mlops.state.session import Session

_PAUSE_SECONDS = 1.0  # after a connection failed: an outage is not made worse by asking
_FETCHED_AT_ONCE = 20


class PostgresqlDatabase:
    """Tables of one part of the house; nothing is connected before it is needed.

    `schema` makes them where a connection finds none, by one process alone. A statement that
    changes something may take `seconds`, one that reads as long, or five; so long one thread
    waits for another, too.
    """

    def __init__(
        self, server: Server, name: str, schema: Sequence[str], seconds: float = 2.0
    ) -> None:
        self._name, self._schema = name, tuple(schema)
        self._writer = _Line(server, seconds, self._furnish)
        self._reader = _Line(server, max(seconds, 5.0), self._furnish)
        self._led: Session | None = None

    def rows(self, query: str, arguments: Sequence[Any] = ()) -> list[Any]:
        """See the port."""
        with self.reading() as session:
            found: list[Any] = session.execute(query, arguments).fetchall()
            return found

    @contextmanager
    def changing(self) -> Iterator[Session]:
        """See the port."""
        with self.writing() as session, session.transaction():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """The connection that writes; each statement is a transaction."""
        with self._writer.use() as session:
            yield session

    @contextmanager
    def reading(self, seconds: float | None = None) -> Iterator[Session]:
        """The connection that reads; `seconds` is another limit for what takes longer."""
        with self._reader.use() as session:
            if seconds is not None:
                session.allow(seconds)
            yield session
            if seconds is not None:
                session.allow()

    def stream(
        self, query: str, arguments: Sequence[Any], limit_seconds: float | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Rows of a query that may find more than memory holds; ends when the time is up."""
        give_up = None if limit_seconds is None else time.monotonic() + limit_seconds
        with self._reader.use() as session:
            try:
                session.execute("BEGIN")
                cursor = f"DECLARE found NO SCROLL CURSOR FOR {query}"
                if _within(session, give_up, cursor, arguments) is None:
                    return
                fetch = f"FETCH {_FETCHED_AT_ONCE} FROM found"
                while (found := _within(session, give_up, fetch)) and (rows := found.fetchall()):
                    yield from rows
            finally:
                session.roll_back()  # also of the time limit

    def lead(self) -> bool:
        """Whether this process leads: it has the lock of this name, which dies with its session.

        False once after that session was lost: another process may have led meanwhile.
        """
        with self.writing() as session:
            if self._led is not session:
                had, self._led = self._led, None
                if had is None and _locked(session, "pg_try_advisory_lock", self._name):
                    self._led = session
        return self._led is not None

    def has_turn(self, session: Session, name: str) -> bool:
        """Whether no other process does this now; holds until the transaction ends."""
        return _locked(session, "pg_try_advisory_xact_lock", f"{self._name} {name}")

    def close(self) -> None:
        """Close the connections; whoever leads leads no longer."""
        self._led = None
        self._writer.close()
        self._reader.close()

    def _furnish(self, session: Session) -> None:
        with session.transaction():  # all tables or none, by one process
            key = "SELECT pg_advisory_xact_lock(hashtextextended(?, 0))"
            session.execute(key, (f"movie_mlops {self._name} tables",))
            there = "SELECT to_regclass(?) IS NOT NULL"
            if session.execute(there, (f"{self._name}_made",)).fetchone() == (False,):
                for statement in (*self._schema, f"CREATE TABLE {self._name}_made ()"):
                    session.execute(statement)


class _Line:
    """A connection that is kept, for one thread at a time; a new one after any fault."""

    def __init__(self, server: Server, seconds: float, furnish: Callable[[Session], None]) -> None:
        self._server, self._seconds, self._furnish = server, seconds, furnish
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._not_before = 0.0

    @contextmanager
    def use(self) -> Iterator[Session]:
        if not self._lock.acquire(timeout=self._seconds):
            message = f"{self._server} is busy with another question"
            raise EngineUnavailableError(message)
        try:
            yield self._ready()
        except psycopg2.Error as error:
            self._drop()
            message = f"{self._server} does not answer: {str(error).strip()}"
            raise EngineUnavailableError(message) from error
        finally:
            self._lock.release()

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _ready(self) -> Session:
        if self._session is not None and not self._session.is_alive:
            self._drop()
        if self._session is None:
            if time.monotonic() < self._not_before:
                message = f"{self._server} did not answer a moment ago"
                raise EngineUnavailableError(message)
            try:
                self._session = Session(self._server, self._seconds)
                self._furnish(self._session)
            except psycopg2.Error:
                self._not_before = time.monotonic() + _PAUSE_SECONDS
                raise
        return self._session

    def _drop(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


def _locked(session: Session, function: str, name: str) -> bool:
    query = f"SELECT {function}(hashtextextended(?, 0))"
    return bool(session.execute(query, (f"movie_mlops {name}",)).fetchone()[0])


def _within(
    session: Session, give_up: float | None, query: str, arguments: Sequence[Any] = ()
) -> Any:
    """The query's cursor, or None when the time is up."""
    try:
        if give_up is not None:
            left = give_up - time.monotonic()
            if left <= 0:
                return None
            session.allow(left)
        return session.execute(query, arguments)
    except errors.QueryCanceled:
        if give_up is None:
            raise
        return None
