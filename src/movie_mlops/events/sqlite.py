"""The embedded event log: one SQLite file, durable when acknowledged, shared by processes."""

import fcntl
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from movie_mlops.domain.errors import (
    EngineUnavailableError,
    LogFullError,
    UnknownEventError,
)
from movie_mlops.events.base import (
    NewEvent,
    Place,
    Position,
    Positions,
    Published,
    Record,
    next_positions,
)
from movie_mlops.events.sqlite_append import (
    Appender,
    CommitJob,
    PublishJob,
    TrimJob,
    bytes_used,
    store_offsets,
    trim,
)

BUSY_SECONDS = 5.0
LOOK_SECONDS = 0.02  # how often a waiting poll looks for events that another process wrote
LARGEST_BATCH = 512
Job = PublishJob | CommitJob | TrimJob

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
  event_id TEXT NOT NULL, key TEXT NOT NULL, type TEXT NOT NULL, body BLOB NOT NULL,
  identity BLOB NOT NULL, published_at INTEGER NOT NULL,
  PRIMARY KEY (topic, partition, offset)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS event_ids ON events (topic, event_id);
CREATE TABLE IF NOT EXISTS heads (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
  PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS group_offsets (
  group_name TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
  next_offset INTEGER NOT NULL, PRIMARY KEY (group_name, topic, partition)
) WITHOUT ROWID;
"""
_SELECT = (
    "SELECT offset, event_id, key, type, body, published_at FROM events "
    "WHERE topic = ? AND partition = ? AND offset >= ? ORDER BY offset LIMIT ?"
)


class SqliteEventLog:
    """See the port. One thread writes: what arrives while it commits shares the next commit."""

    def __init__(self, path: Path, topics: Mapping[str, int], max_bytes: int) -> None:
        self._path, self._topics, self._max_bytes = path, dict(topics), max_bytes
        self._cursors: dict[tuple[str, Place], int] = {}
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._grown = threading.Condition()
        self._left, self._measured_at = 0, 0.0
        self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = _connect(path)
            self._reader = _connect(path)
            self._turn = path.with_suffix(".turn").open("a")
        except (sqlite3.Error, OSError) as error:
            raise _translated(error, path) from error
        self._reading = threading.Lock()
        self._enqueueing = threading.Lock()
        self._thread = threading.Thread(target=self._write_forever, name="event-log", daemon=True)
        self._thread.start()

    def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Published]:
        """Append durably; see the port."""
        return self.publish_future(topic, events).result()

    def publish_future(self, topic: str, events: Sequence[NewEvent]) -> Future[list[Published]]:
        """Append; the future is done when the commit is on disk. See the port."""
        if topic not in self._topics:
            message = f"no topic {topic!r}; there are {', '.join(self._topics)}"
            raise UnknownEventError(message)
        for event in events:
            f"{event.event_id}{event.key}{event.type}".encode()  # lone surrogates stop here
        job = PublishJob(topic, events)
        self._enqueue(job)
        return job.future

    def poll(
        self, group: str, topics: Sequence[str], limit: int, wait_seconds: float = 0.0
    ) -> list[Record]:
        """Next events of the group; see the port."""
        deadline = time.monotonic() + wait_seconds
        while True:
            records = self._next(group, topics, limit)
            left = deadline - time.monotonic()
            if records or left <= 0:
                for place, offset in next_positions(records).items():
                    self._cursors[group, place] = offset
                return records
            with self._grown:
                self._grown.wait(min(left, LOOK_SECONDS))

    def commit(self, group: str, positions: Positions) -> None:
        """Remember durably; see the port."""
        job = CommitJob(group, dict(positions))
        self._enqueue(job)
        job.future.result()

    def seek(self, group: str, positions: Positions) -> None:
        """Move the cursor of this object; see the port."""
        for place, offset in positions.items():
            self._cursors[group, place] = offset

    def skip(self, group: str, positions: Positions) -> None:
        """Move the cursor of this object on, never back; see the port."""
        for place, offset in positions.items():
            self._cursors[group, place] = max(offset, self._cursors.get((group, place), 0))

    def committed(self, group: str, topics: Sequence[str]) -> dict[Place, int]:
        """Committed offsets; see the port."""
        query = "SELECT topic, partition, next_offset FROM group_offsets WHERE group_name = ?"
        return self._offsets(topics, query, (group,))

    def end_positions(self, topics: Sequence[str]) -> dict[Place, int]:
        """Next offsets; see the port."""
        return self._offsets(topics, "SELECT topic, partition, next_offset FROM heads", ())

    def read(self, place: Place, from_offset: int, limit: int) -> list[Record]:
        """Events without a group; see the port."""
        rows = self._query(_SELECT, (*place, from_offset, limit))
        return [
            Record(Position(*place, offset), event_id, key, kind, body, at)
            for offset, event_id, key, kind, body, at in rows
        ]

    def lag(self, group: str, topics: Sequence[str]) -> dict[str, int]:
        """Events that are not committed; see the port."""
        committed = self.committed(group, topics)
        behind = dict.fromkeys(topics, 0)
        for place, end in self.end_positions(topics).items():
            behind[place.topic] += end - committed[place]
        return behind

    def trim(self, positions: Positions) -> None:
        """Remove for good; see the port."""
        job = TrimJob(dict(positions))
        self._enqueue(job)
        job.future.result()

    def ping(self) -> None:
        """Read one row; see the port."""
        if not self._thread.is_alive():
            message = f"the event log {self._path} is closed"
            raise EngineUnavailableError(message)
        self._query("SELECT 1", ())

    def close(self) -> None:
        """Write what is queued, then refuse; see the port."""
        with self._enqueueing:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        with self._reading:
            self._reader.close()
        self._writer.close()
        self._turn.close()

    def _enqueue(self, job: Job) -> None:
        with self._enqueueing:
            if self._closed:
                message = f"the event log {self._path} is closed"
                raise EngineUnavailableError(message)
            self._jobs.put(job)

    def _places(self, topics: Sequence[str]) -> list[Place]:
        return [Place(topic, part) for topic in topics for part in range(self._topics[topic])]

    def _next(self, group: str, topics: Sequence[str], limit: int) -> list[Record]:
        places = self._places(topics)
        if any((group, place) not in self._cursors for place in places):
            for place, offset in self.committed(group, topics).items():
                self._cursors.setdefault((group, place), offset)
        records: list[Record] = []
        for place in sorted(places, key=lambda place: self._cursors[group, place]):
            left = limit - len(records)
            if left > 0:
                records += self.read(place, self._cursors[group, place], left)
        return records

    def _offsets(
        self, topics: Sequence[str], query: str, arguments: tuple[str, ...]
    ) -> dict[Place, int]:
        known = {
            Place(topic, part): offset for topic, part, offset in self._query(query, arguments)
        }
        return {place: known.get(place, 0) for place in self._places(topics)}

    def _query(self, query: str, arguments: tuple[object, ...]) -> list[tuple[Any, ...]]:
        try:
            with self._reading:
                return self._reader.execute(query, arguments).fetchall()
        except sqlite3.Error as error:
            raise _translated(error, self._path) from error

    def _write_forever(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch: list[Job] = [job]
            last = False
            while len(batch) < LARGEST_BATCH and not last:
                try:
                    more = self._jobs.get_nowait()
                except Empty:
                    break
                if more is None:
                    last = True
                else:
                    batch.append(more)
            self._write(batch)
            if last:
                return

    def _write(self, batch: Sequence[Job]) -> None:
        jobs = [job for job in batch if job.future.set_running_or_notify_cancel()]
        outcomes: dict[int, list[Published] | Exception] = {}
        # the kernel wakes the next process at once; SQLite's own waiting sleeps longer and longer
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            published = [job for job in jobs if isinstance(job, PublishJob)]
            append = Appender(self._writer, self._topics, self._room())
            found = append.append(published)
            outcomes = {id(job): each for job, each in zip(published, found, strict=True)}
            self._left = append.left
            for other in jobs:
                if isinstance(other, CommitJob):
                    store_offsets(self._writer, other)
                elif isinstance(other, TrimJob):
                    trim(self._writer, other)
            self._writer.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 (whatever it is, the writer goes on)
            _roll_back(self._writer)
            outcomes = {id(job): _translated(error, self._path) for job in jobs}
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)
        for job in jobs:
            outcome = outcomes.get(id(job), [])
            if isinstance(outcome, Exception):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome if isinstance(job, PublishJob) else None)  # type: ignore[arg-type]
        with self._grown:
            self._grown.notify_all()

    def _room(self) -> int:
        """Bytes below the bound; looked up often when little is left, else once a second."""
        now = time.monotonic()
        if now >= self._measured_at + 1 or self._left < self._max_bytes // 100:
            self._left, self._measured_at = self._max_bytes - bytes_used(self._writer), now
        return self._left


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    # temp_store: an insert of many rows keeps what it would take back, otherwise in a file
    for setting in ("synchronous = FULL", "secure_delete = ON", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {setting}")
    # another process may switch or create at this moment, and SQLite does not wait for that
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
        except sqlite3.OperationalError:
            _roll_back(connection)
            if time.monotonic() > deadline:
                connection.close()
                raise
            time.sleep(0.01)
        else:
            return connection


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with closing(connection.cursor()) as cursor:
            cursor.execute("ROLLBACK")


def _translated(error: Exception, path: Path) -> EngineUnavailableError:
    if "full" in str(error):
        return LogFullError(f"the disk of {path} is full; free some space", 30.0)
    return EngineUnavailableError(f"the event log {path} does not answer: {error}")
