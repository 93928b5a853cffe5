"""The port of the event log: append, read as a group, remember how far the group is."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol
from zlib import crc32

import msgspec

from movie_mlops.domain.errors import EventError

_POSITION = re.compile(r"([a-z][a-z0-9-]{0,63}):(\d{1,5}):(\d{1,18})", re.ASCII)


class Position(NamedTuple):
    """Where one event stands; written `user-events:2:123`."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


class Place(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


Positions = Mapping[Place, int]
"""Partition to the offset of the next event, as Kafka counts: 0 when nothing was handled."""


class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """An event before it has a position.

    `event_id` is unique within a topic. Events with one `key` share a partition and keep their
    order. `type` is a versioned name (`user_interaction.v1`), `body` is JSON. `fingerprint` says
    what makes two events with one id the same; when empty it is made of key, type and body.
    """

    event_id: str
    key: str
    type: str
    body: bytes
    fingerprint: bytes = b""

    def identity(self) -> bytes:
        """The fingerprint, made when it was not given."""
        if self.fingerprint:
            return self.fingerprint
        text = f"{self.key}\0{self.type}\0".encode() + self.body
        return hashlib.blake2b(text, digest_size=16).digest()


class Standing(StrEnum):
    """What an event's id says: new, the same event again, or another event under its id.

    Consumers handle what is first, pass over a duplicate, and bury a conflict. An engine that
    refuses repeats when they are published (the embedded one) holds nothing but first ones.
    """

    FIRST = "first"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Record:
    """A stored event; `published_at` is microseconds since 1970."""

    position: Position
    event_id: str
    key: str
    type: str
    body: bytes
    published_at: int
    standing: Standing = Standing.FIRST


class Published(NamedTuple):
    """Where an event stands; a duplicate stands where it was published first."""

    position: Position
    is_duplicate: bool


class EventLog(Protocol):
    """An append-only log with partitions and consumer groups; safe to call from many threads."""

    def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Published]:
        """Append these events; returns when they survive a crash.

        Of a call that raises nothing was stored; where an engine promises less, its docstring
        says so. An id twice in one call is stored once. An event whose id the topic has already
        seen is not stored again by an engine that looks ids up (the embedded one): it is
        reported as a duplicate with its first position. Another engine (Kafka) stores it again,
        and its readers get it with that `standing`.

        Raises:
            UnknownEventError: there is no such topic.
            EventConflictError: an id was taken before by another event; nothing was stored.
            EventError: an event is larger than the log takes; nothing was stored.
            LogFullError: the log takes no more at the moment; nothing was stored.
            EngineUnavailableError: the log does not answer; publish again under the same ids.
        """
        ...

    def publish_future(self, topic: str, events: Sequence[NewEvent]) -> Future[list[Published]]:
        """As `publish`, for callers that must not wait.

        The future may be cancelled as long as nothing was sent; else `cancel` answers False.
        """
        ...

    def poll(
        self, group: str, topics: Sequence[str], limit: int, wait_seconds: float = 0.0
    ) -> list[Record]:
        """The next events of the group, in order within each partition, at most `limit`.

        Continues after what this object returned last; a new object continues after the last
        commit, a new group at the beginning. Waits up to `wait_seconds` for the first event.
        An empty answer does not say that there is nothing: over a network it may be on its way.
        A group has one member at a time in the embedded log. On Kafka its members share the
        partitions; one that changes hands begins at its commit, so events may come twice.
        """
        ...

    def commit(self, group: str, positions: Positions) -> None:
        """Remember durably that the group has handled everything before these offsets.

        Partitions that another member of the group has taken over are left out.
        """
        ...

    def seek(self, group: str, positions: Positions) -> None:
        """Let the group's next poll start at these offsets, others as before; commits nothing.

        A group that is set before its first poll reads all partitions itself, whoever else bears
        its name: a replica needs every event, at once.
        """
        ...

    def skip(self, group: str, positions: Positions) -> None:
        """Know that the group needs nothing before these offsets; commits nothing.

        An engine that reads ahead for its groups (Kafka) may give such events all the same.
        """
        ...

    def committed(self, group: str, topics: Sequence[str]) -> dict[Place, int]:
        """The committed offset of every partition of these topics; 0 where there is none."""
        ...

    def end_positions(self, topics: Sequence[str]) -> dict[Place, int]:
        """The offset that the next event of every partition will get."""
        ...

    def read(self, place: Place, from_offset: int, limit: int) -> list[Record]:
        """Events of one partition from an offset on, without any group: for replay.

        What retention has removed is passed over. Empty when there is none up to the end.
        """
        ...

    def lag(self, group: str, topics: Sequence[str]) -> dict[str, int]:
        """Events per topic that the group has not committed, those expired included."""
        ...

    def trim(self, positions: Positions) -> None:
        """Remove every event before these offsets for good; their ids are forgotten with them."""
        ...

    def ping(self) -> None:
        """Return when the log answers, else raise EngineUnavailableError."""
        ...

    def close(self) -> None:
        """Finish what was accepted, then refuse; a second call does nothing."""
        ...


def partition_of(key: str, partitions: int) -> int:
    """The same partition for the same key on every machine (librdkafka's `consistent`)."""
    return crc32(key.encode()) % partitions


def parse_position(text: str) -> Position:
    """Read `user-events:2:123`.

    Raises:
        EventError: the text is no position.
    """
    match = _POSITION.fullmatch(text)
    if match is None:
        message = f"{text[:80]!r} is no log position; send back the position of a 202 as it was"
        raise EventError(message)
    return Position(match[1], int(match[2]), int(match[3]))


def next_positions(records: Iterable[Record]) -> dict[Place, int]:
    """What to commit after these records were handled."""
    reached: dict[Place, int] = {}
    for record in records:
        topic, partition, offset = record.position
        place = Place(topic, partition)
        reached[place] = max(offset + 1, reached.get(place, 0))
    return reached
