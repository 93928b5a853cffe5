"""What the embedded log's writer does within one transaction."""

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from movie_mlops.domain.errors import EventConflictError, LogFullError
from movie_mlops.events.base import (
    NewEvent,
    Place,
    Position,
    Positions,
    Published,
    partition_of,
)
from movie_mlops.monitoring.metrics import EVENT_LOG_BYTES

MOST_AT_ONCE = 512


@dataclass(slots=True)
class PublishJob:
    """Events to append, all or none."""

    topic: str
    events: Sequence[NewEvent]
    future: "Future[list[Published]]" = field(default_factory=Future)


@dataclass(slots=True)
class CommitJob:
    """Offsets to remember."""

    group: str
    positions: Positions
    future: "Future[None]" = field(default_factory=Future)


@dataclass(slots=True)
class TrimJob:
    """Offsets before which everything goes."""

    positions: Positions
    future: "Future[None]" = field(default_factory=Future)


class Appender:
    """Appends jobs within one transaction.

    Every statement gives the interpreter away and has to win it back from a busy event loop, so a
    transaction has a handful of them however many events it stores. `left` are the bytes that may
    still be stored.
    """

    def __init__(
        self, connection: sqlite3.Connection, topics: Mapping[str, int], left: int
    ) -> None:
        self._connection, self._topics, self.left = connection, topics, left
        self._heads: dict[Place, int] = {}
        self._rows: list[tuple[Any, ...]] = []
        self._now = time.time_ns() // 1000

    def append(self, jobs: Sequence[PublishJob]) -> list["list[Published] | Exception"]:
        """The outcome of each job; of one that fails nothing is written."""
        if not jobs:
            return []
        known = self._stored(jobs)
        heads = self._connection.execute("SELECT topic, partition, next_offset FROM heads")
        self._heads = {Place(topic, part): offset for topic, part, offset in heads.fetchall()}
        outcomes = [self._append(job, known) for job in jobs]
        self._insert()
        return outcomes

    def _append(
        self, job: PublishJob, known: dict[tuple[str, str], tuple[int, int, bytes]]
    ) -> "list[Published] | Exception":
        self.left -= (size := sum(len(event.body) + 200 for event in job.events))
        if self.left < 0:
            self.left += size
            text = "the event log has reached the size that bounds it; raise it or trim the log"
            return LogFullError(text, retry_after_seconds=30.0)
        rows: dict[tuple[str, str], tuple[Any, ...]] = {}
        fresh: dict[tuple[str, str], tuple[int, int, bytes]] = {}
        heads: dict[Place, int] = {}
        done: list[Published] = []
        for event in job.events:
            name, identity = (job.topic, event.event_id), event.identity()
            seen = fresh.get(name) or known.get(name)
            if seen is None:
                place = Place(job.topic, partition_of(event.key, self._topics[job.topic]))
                offset = heads.get(place, self._heads.get(place, 0))
                heads[place] = offset + 1
                fresh[name] = (place.partition, offset, identity)
                rows[name] = (
                    *place, offset, event.event_id, event.key, event.type, event.body, identity,
                    self._now,
                )  # fmt: skip
                done.append(Published(Position(*place, offset), is_duplicate=False))
            elif seen[2] == identity:
                done.append(Published(Position(job.topic, seen[0], seen[1]), is_duplicate=True))
            else:
                text = f"event id {event.event_id!r} was used before for another event"
                return EventConflictError(text)
        known |= fresh
        self._heads |= heads
        self._rows += rows.values()
        return done

    def _stored(self, jobs: Sequence[PublishJob]) -> dict[tuple[str, str], tuple[int, int, bytes]]:
        """Where the events stand whose ids the log has seen: (partition, offset, identity)."""
        found: dict[tuple[str, str], tuple[int, int, bytes]] = {}
        for topic in {job.topic for job in jobs}:
            names = [event.event_id for job in jobs if job.topic == topic for event in job.events]
            for chunk in _chunks(names):
                # one statement per size is prepared once; ids more than needed do no harm; left to
                # itself SQLite reads the whole topic when there are many
                asked = [*chunk, *[chunk[0]] * (_power(len(chunk)) - len(chunk))]
                marks = ",".join("?" * len(asked))
                query = (
                    "SELECT event_id, partition, offset, identity FROM events INDEXED BY event_ids "  # noqa: S608 (marks)
                    f"WHERE topic = ? AND event_id IN ({marks})"
                )
                for event_id, *seen in self._connection.execute(query, (topic, *asked)).fetchall():
                    found[topic, event_id] = (seen[0], seen[1], seen[2])
        return found

    def _insert(self) -> None:
        rows = self._rows
        while rows:
            count = _power(len(rows) + 1) // 2  # the largest power of two that there are
            marks = ",".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?)"] * count)
            text = (
                "INSERT INTO events (topic, partition, offset, event_id, key, type, body,"  # noqa: S608 (marks)
                f" identity, published_at) VALUES {marks}"
            )
            self._connection.execute(text, [value for row in rows[:count] for value in row])
            rows = rows[count:]
        self._connection.executemany(
            "INSERT INTO heads VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset",
            [(*place, offset) for place, offset in self._heads.items()],
        )


def bytes_used(connection: sqlite3.Connection) -> int:
    """The size of what the file holds, free pages left out."""
    page, pages, free = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_size", "page_count", "freelist_count")
    )
    EVENT_LOG_BYTES.set(page * (pages - free))
    return page * (pages - free)


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), MOST_AT_ONCE):
        yield names[start : start + MOST_AT_ONCE]


def _power(count: int) -> int:
    """The smallest power of two that is not below `count`, at most `MOST_AT_ONCE`."""
    return min(1 << max(count - 1, 0).bit_length(), MOST_AT_ONCE)


def store_offsets(connection: sqlite3.Connection, job: CommitJob) -> None:
    """Write a group's offsets."""
    connection.executemany(
        "INSERT INTO group_offsets VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset",
        [(job.group, *place, offset) for place, offset in job.positions.items()],
    )


def trim(connection: sqlite3.Connection, job: TrimJob) -> None:
    """Remove events; `secure_delete` overwrites them."""
    connection.executemany(
        "DELETE FROM events WHERE topic = ? AND partition = ? AND offset < ?",
        [(*place, offset) for place, offset in job.positions.items()],
    )
