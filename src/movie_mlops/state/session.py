"""One connection to PostgreSQL on which nothing waits without end, whatever the server does."""

import select
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

import psycopg2
from psycopg2 import extensions

from movie_mlops.state.base import Server

_CONNECT_SECONDS = 2.0
_GRACE_SECONDS = 1.0  # the server gives up first, so that the connection lives on
_IDLE_IN_TRANSACTION_SECONDS = 10  # a frozen process holds up nobody for longer
_AT_ONCE = 200  # statements in one message


class Session:
    """A connection whose every statement has a time limit, on the server and here.

    psycopg2's asynchronous mode is used with a clock: a server that is frozen, or gone without a
    word, answers no statement and no cancellation. Raises psycopg2's errors.
    """

    def __init__(self, server: Server, seconds: float) -> None:
        self._seconds = self._allowed = seconds
        options = {
            "statement_timeout": round(1000 * seconds),
            "idle_in_transaction_session_timeout": 1000 * _IDLE_IN_TRANSACTION_SECONDS,
            "client_min_messages": "warning",
            # a client whose machine is gone loses its locks after half a minute
            "tcp_keepalives_idle": 15,
            "tcp_keepalives_interval": 5,
            "tcp_keepalives_count": 3,
        }
        self._connection = psycopg2.connect(
            host=server.host,
            port=server.port,
            dbname=server.database,
            user=server.user,
            password=server.password,
            async_=1,
            application_name="movie-mlops",
            client_encoding="UTF8",
            options=" ".join(f"-c {name}={value}" for name, value in options.items()),
        )
        self._wait(_CONNECT_SECONDS)
        extensions.register_type(_BYTES, self._connection)
        self._cursor = self._connection.cursor()

    def execute(self, query: str, arguments: Sequence[Any] = (), /) -> Any:
        """Run a query; its cursor holds until the next one."""
        self._cursor.execute(_text(self._cursor, query, arguments))
        self._wait(self._allowed + _GRACE_SECONDS)
        return self._cursor

    def executemany(self, query: str, rows: Iterable[Sequence[Any]], /) -> None:
        """Run a query for each row, many of them in one message."""
        left = iter(rows)
        while page := list(islice(left, _AT_ONCE)):
            self._cursor.execute(b";".join(_text(self._cursor, query, row) for row in page))
            self._wait(self._allowed + _GRACE_SECONDS)

    def allow(self, seconds: float | None = None) -> None:
        """Let each statement from now on take so long; None: as long as usual.

        Within a transaction the server forgets it at its rollback: say it here again then.
        """
        self._allowed = self._seconds if seconds is None else seconds
        self.execute(f"SET statement_timeout = {max(round(1000 * self._allowed), 1)}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is executed within, or nothing."""
        self.execute("BEGIN")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            self.roll_back()
            raise

    def roll_back(self) -> None:
        """Undo the transaction, if there is a server that listens."""
        self._allowed = self._seconds
        if not self._connection.closed and not self._connection.isexecuting():
            with suppress(psycopg2.Error):
                self.execute("ROLLBACK")

    @property
    def is_alive(self) -> bool:
        """Whether it can be used as far as this side knows; costs no message."""
        if self._connection.closed or self._connection.isexecuting():
            return False
        if _ready(self._connection.fileno(), select.POLLIN, 0):  # the server said something: why?
            with suppress(psycopg2.Error):
                self._connection.poll()
        return not self._connection.closed

    def close(self) -> None:
        """Close it; what its session held is free."""
        self._connection.close()

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (state := self._connection.poll()) != extensions.POLL_OK:
            event = select.POLLIN if state == extensions.POLL_READ else select.POLLOUT
            if not _ready(self._connection.fileno(), event, deadline - time.monotonic()):
                self.close()
                message = f"no answer within {seconds:g} s"
                raise psycopg2.OperationalError(message)


def _ready(descriptor: int, event: int, seconds: float) -> bool:
    waiting = select.poll()
    waiting.register(descriptor, event)
    return bool(waiting.poll(max(1000 * seconds, 0)))


def _text(cursor: Any, query: str, arguments: Sequence[Any]) -> bytes:
    # its texts hold no NUL; whoever looks for one finds nothing
    values = [each.replace("\0", "\ufffd") if isinstance(each, str) else each for each in arguments]
    made: bytes = cursor.mogrify(query.replace("?", "%s"), values or None)
    return made


def _as_bytes(value: Any, cursor: Any) -> bytes | None:
    found = psycopg2.BINARY(value, cursor)
    return None if found is None else bytes(found)


_BYTES = extensions.new_type(psycopg2.BINARY.values, "BYTES", _as_bytes)
