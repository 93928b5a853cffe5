"""What the embedded log's writer does within one transaction."""

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import Any

from movie_mlops.domain.errors import EventConflictError, LogFullError
from movie_mlops.events.base import (
    NewEvent,
    Position,
    Positions,
    Published,
    partition_of,
)
from movie_mlops.monitoring.metrics import EVENT_LOG_BYTES

MOST_AT_ONCE = 512
_COLUMNS = 9
_Seen = tuple[int, int, bytes]
"""Partition, offset and identity of an event."""
_new = tuple.__new__


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

    Every statement and every row that is read gives the interpreter away and has to win it back
    from a busy event loop, so a transaction has a handful of them however many events it stores.
    `left` are the bytes that may still be stored.
    """

    def __init__(
        self, connection: sqlite3.Connection, topics: Mapping[str, int], left: int
    ) -> None:
        self._connection, self._topics, self.left = connection, topics, left
        self._heads: dict[str, dict[int, int]] = {topic: {} for topic in topics}
        self._moved: dict[str, dict[int, int]] = {}
        self._values: list[Any] = []  # of all rows, one behind the other
        self._now = time.time_ns() // 1000

    def append(self, jobs: Sequence[PublishJob]) -> list["list[Published] | Exception"]:
        """The outcome of each job; of one that fails nothing is written."""
        if not jobs:
            return []
        known = {topic: self._look(topic, jobs) for topic in {job.topic for job in jobs}}
        outcomes = [self._append(job, known[job.topic]) for job in jobs]
        self._insert()
        return outcomes

    def _append(self, job: PublishJob, known: dict[str, _Seen]) -> "list[Published] | Exception":
        self.left -= (size := sum([len(event.body) + 200 for event in job.events]))
        if self.left < 0:
            self.left += size
            text = "the event log has reached the size that bounds it; raise it or trim the log"
            return LogFullError(text, retry_after_seconds=30.0)
        values: list[Any] = []
        fresh: dict[str, _Seen] = {}
        topic, partitions, now = job.topic, self._topics[job.topic], self._now
        heads = self._heads[topic].copy()
        done: list[Published] = []
        for event in job.events:
            event_id, identity = event.event_id, event.identity()
            seen = fresh.get(event_id) or known.get(event_id)
            if seen is None:
                part = partition_of(event.key, partitions)
                offset = heads.get(part, 0)
                heads[part] = offset + 1
                fresh[event_id] = (part, offset, identity)
                values += (
                    topic, part, offset, event_id, event.key, event.type, event.body, identity, now,
                )  # fmt: skip
                done.append(_published(topic, part, offset, is_duplicate=False))
            elif seen[2] == identity:
                done.append(_published(topic, seen[0], seen[1], is_duplicate=True))
            else:
                text = f"event id {event_id!r} was used before for another event"
                return EventConflictError(text)
        if fresh:
            known |= fresh
            self._heads[topic] = self._moved[topic] = heads
            self._values += values
        return done

    def _look(self, topic: str, jobs: Sequence[PublishJob]) -> dict[str, _Seen]:
        """Read the heads, and where the events stand whose ids the topic has seen."""
        found: dict[str, _Seen] = {}
        names = [event.event_id for job in jobs if job.topic == topic for event in job.events]
        for chunk in _chunks(names):
            # a statement of each size is prepared once; ids more than needed do no harm
            asked = [*chunk, *[chunk[0]] * (_size(len(chunk)) - len(chunk))]
            query = _looking(len(asked))
            row = self._connection.execute(query, [topic, topic, *asked]).fetchone()
            self._heads[topic] = dict(json.loads(row[0]))
            for event_id, part, offset, identity in json.loads(row[1]):
                found[event_id] = (part, offset, bytes.fromhex(identity))
        return found

    def _insert(self) -> None:
        for start in range(0, len(self._values), MOST_AT_ONCE * _COLUMNS):
            values = self._values[start : start + MOST_AT_ONCE * _COLUMNS]
            count = _size(len(values) // _COLUMNS)
            values += [None] * (_COLUMNS * count - len(values))
            self._connection.execute(_inserting(count), values)
        if self._moved:
            moved = [
                (topic, part, offset)
                for topic, heads in self._moved.items()
                for part, offset in heads.items()
            ]
            marks = ",".join(["(?, ?, ?)"] * len(moved))
            self._connection.execute(
                f"INSERT INTO heads VALUES {marks}"  # noqa: S608 (marks)
                " ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset",
                list(chain.from_iterable(moved)),
            )


def _published(topic: str, part: int, offset: int, *, is_duplicate: bool) -> Published:
    # as `Published(Position(…), …)`, which goes through a function of Python for each
    return _new(Published, (_new(Position, (topic, part, offset)), is_duplicate))


@cache
def _looking(count: int) -> str:
    """The query for the heads and for these many ids: one row, so the reader steps once.

    Left to itself SQLite reads the whole topic when there are many ids.
    """
    marks = ",".join("?" * count)
    return (
        "SELECT (SELECT json_group_array(json_array(partition, next_offset))"  # noqa: S608 (marks)
        " FROM heads WHERE topic = ?),"
        " (SELECT json_group_array(json_array(event_id, partition, offset, hex(identity)))"
        f" FROM events INDEXED BY event_ids WHERE topic = ? AND event_id IN ({marks}))"
    )


@cache
def _inserting(count: int) -> str:
    """The statement for up to these many rows; those of NULL are passed over."""
    marks = ",".join([f"({', '.join('?' * _COLUMNS)})"] * count)
    return (
        "INSERT INTO events (topic, partition, offset, event_id, key, type, body, identity,"  # noqa: S608 (marks)
        f" published_at) SELECT * FROM (VALUES {marks}) WHERE column1 IS NOT NULL"
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


def _size(count: int) -> int:
    """The least that is not below `count` of few sizes: four to each power of two."""
    step = max(1 << (count - 1).bit_length() >> 3, 1)
    return -(-count // step) * step


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
