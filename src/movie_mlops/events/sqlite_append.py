"""What the embedded log's writer does within one transaction."""

import sqlite3
import time
from collections.abc import Mapping, Sequence
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


class Appender:
    """Appends jobs within one transaction."""

    def __init__(
        self, connection: sqlite3.Connection, topics: Mapping[str, int], max_bytes: int
    ) -> None:
        self._connection, self._topics = connection, topics
        self._heads: dict[Place, int] = {}
        self._now = time.time_ns() // 1000
        page, pages, free = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_size", "page_count", "freelist_count")
        )
        EVENT_LOG_BYTES.set(page * (pages - free))
        self._left = max_bytes - page * (pages - free)
        self._max_bytes = max_bytes

    def __call__(self, job: PublishJob) -> list[Published] | Exception:
        """Append one job; an error is returned, and then nothing of the job was written."""
        size = sum(len(event.body) + 200 for event in job.events)
        if size > self._left:
            text = f"the event log holds {self._max_bytes} bytes, its bound; raise it or trim it"
            return LogFullError(text, retry_after_seconds=30.0)
        self._left -= size
        rows: dict[str, tuple[Any, ...]] = {}
        done: list[Published] = []
        taken: dict[Place, int] = {}
        for event in job.events:
            identity = event.identity()
            seen = rows.get(event.event_id) or self._stored(job.topic, event.event_id)
            if seen is None:
                place = Place(job.topic, partition_of(event.key, self._topics[job.topic]))
                offset = self._head(place) + taken.get(place, 0)
                taken[place] = taken.get(place, 0) + 1
                rows[event.event_id] = (
                    place.partition, offset, identity, event.event_id, event.key, event.type,
                    event.body, job.topic, self._now,
                )  # fmt: skip
                done.append(Published(Position(*place, offset), is_duplicate=False))
            elif seen[2] == identity:
                position = Position(job.topic, seen[0], seen[1])
                done.append(Published(position, is_duplicate=True))
            else:
                text = f"event id {event.event_id!r} was used before for another event"
                return EventConflictError(text)
        self._connection.executemany(
            "INSERT INTO events (partition, offset, identity, event_id, key, type, body, topic,"
            " published_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows.values(),
        )
        for place, count in taken.items():
            self._heads[place] += count
        return done

    def store_heads(self) -> None:
        """Write the next offset of every partition that grew."""
        self._connection.executemany(
            "INSERT INTO heads VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset",
            [(*place, offset) for place, offset in self._heads.items()],
        )

    def _head(self, place: Place) -> int:
        if place not in self._heads:
            row = self._connection.execute(
                "SELECT next_offset FROM heads WHERE topic = ? AND partition = ?", place
            ).fetchone()
            self._heads[place] = row[0] if row else 0
        return self._heads[place]

    def _stored(self, topic: str, event_id: str) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._connection.execute(
            "SELECT partition, offset, identity FROM events WHERE topic = ? AND event_id = ?",
            (topic, event_id),
        ).fetchone()
        return row


def store_offsets(connection: sqlite3.Connection, job: CommitJob) -> None:
    """Write a group's offsets."""
    connection.executemany(
        "INSERT INTO group_offsets VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset",
        [(job.group, *place, offset) for place, offset in job.positions.items()],
    )
