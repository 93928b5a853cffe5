"""The port of what all API processes of a home share: who was shown what, and tests' users."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from movie_mlops.state import Connection

KEPT_SECONDS = 24 * 3600.0
KEPT_RECORDS = 1_000_000
KEPT_SUBJECTS = 1_000_000


class Batch(NamedTuple):
    """What one process showed within a moment; times are milliseconds since 1970.

    `subjects` are (test, subject, arm, first time), `exposures` (test, arm, version, count).
    """

    begin_ms: int
    end_ms: int
    records: int
    body: bytes
    subjects: Sequence[tuple[str, bytes, str, int]] = ()
    exposures: Sequence[tuple[str, str, str, int]] = ()


class ExposureStore(ABC):
    """Batches of a day, a million records at most, and the users of the latest few A/B tests.

    Tables, the same in every engine: batches (number, begin_ms, end_ms, worker, records, body),
    kept (records: how many there are), experiments, arms, subjects. What was written survives a
    kill of any process.
    """

    _FOR_CHANGE = ""
    """Ends a SELECT whose row is changed in the same transaction."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Store one batch, all or nothing.

        Raises:
            EngineUnavailableError: the engine cannot write now.
        """

    @abstractmethod
    def prune(self) -> None:
        """Drop what is too old or too much.

        Raises:
            EngineUnavailableError: the engine cannot write now.
        """

    @abstractmethod
    def bodies(
        self, request_id: str, between_ms: tuple[int, int] | None, limit_seconds: float
    ) -> Iterator[bytes]:
        """Bodies that hold the text: of a span of time from its begin on, or the newest first.

        Ends without a word when the time is up; nothing older than a day is looked at.
        """

    @abstractmethod
    def bodies_since(self, since_ms: int) -> Iterator[bytes]:
        """Bodies of all batches that end after this time, in the order they were written."""

    @abstractmethod
    def numbers_with(self, text: str) -> list[int]:
        """Numbers of the batches whose body holds the text."""

    @abstractmethod
    def lead(self) -> bool:
        """Whether this process joins outcomes: the first one that asks does, until it ends.

        False once after this process lost the lead: another one may have joined since.
        """

    @abstractmethod
    def rows(self, query: str, arguments: Sequence[Any] = ()) -> list[Any]:
        """What a query finds.

        Raises:
            EngineUnavailableError: the engine does not answer.
        """

    @abstractmethod
    def reading(self) -> AbstractContextManager[Connection]:
        """A connection to read with; raises as `rows` does."""

    @abstractmethod
    def changing(self) -> AbstractContextManager[Connection]:
        """A connection within one transaction.

        Raises:
            EngineUnavailableError: the engine cannot write now.
        """

    @abstractmethod
    def forget_deleted(self) -> None:
        """Leave as little of what was deleted as the engine can; the engine's docstring says."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the engine and let another process lead."""

    def rewrite(self, number: int, change: Callable[[bytes], tuple[bytes, int, int]]) -> int:
        """Change a batch; `change` says the new body, its records, and how many are gone.

        A batch without records goes as a whole. Returns how many are gone.

        Raises:
            EngineUnavailableError: the engine cannot write now.
        """
        with self.changing() as connection:  # a short one each: API processes write meanwhile
            query = "SELECT begin_ms, end_ms, worker, body FROM batches WHERE number = ?"
            row = connection.execute(query + self._FOR_CHANGE, (number,)).fetchone()
            left, count, gone = change(row[-1]) if row else (b"", 0, 0)
            if gone:
                # delete and insert, not update: the triggers keep the count of records
                connection.execute("DELETE FROM batches WHERE number = ?", (number,))
                if count:
                    insert = (
                        "INSERT INTO batches (number, begin_ms, end_ms, worker, records, body)"
                        " VALUES (?, ?, ?, ?, ?, ?)"
                    )
                    connection.execute(insert, (number, *row[:3], count, left))
        return gone
