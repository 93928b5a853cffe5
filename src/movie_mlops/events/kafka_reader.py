"""Kafka without a group: names, messages as records, and reading from any offset."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from movie_mlops.domain.errors import EngineUnavailableError, UnknownEventError
from movie_mlops.events.base import NewEvent, Place, Position, Record
from movie_mlops.events.cloud_events import from_cloud_event
from movie_mlops.events.repeats import Stored

REQUEST_SECONDS = 5.0
FINGERPRINT = "fingerprint"
_CHUNK, _FAR = 1_000, 1 << 62
_AGAIN_SECONDS = 0.05
_BUSY = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,  # made a moment ago, as the next three
    KafkaError._NOENT,  # noqa: SLF001 (librdkafka's own codes are public)
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 (librdkafka's own codes are public)
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 (librdkafka's own codes are public)
}
_LOG = logging.getLogger(__name__)

T = TypeVar("T")


class Cluster:
    """Where Kafka is, and what this log's topics and groups are called there."""

    def __init__(self, servers: str, prefix: str) -> None:
        self.servers, self._prefix = servers, prefix

    def name(self, topic_or_group: str) -> str:
        """The name as Kafka has it."""
        return self._prefix + topic_or_group

    def place(self, partition: TopicPartition) -> Place:
        """The partition in the words of the house."""
        return Place(partition.topic[len(self._prefix) :], partition.partition)

    def partition(self, place: Place, offset: int = -1001) -> TopicPartition:
        """The partition in Kafka's words; the default offset is none."""
        return TopicPartition(self.name(place.topic), place.partition, offset)

    def config(self, **more: Any) -> dict[str, Any]:
        """What every client is told; keywords have `_` for Kafka's dots."""
        return {
            "bootstrap.servers": self.servers,
            "reconnect.backoff.max.ms": 1_000,  # a broker that is back is used within a second
            "socket.keepalive.enable": True,
            **{name.replace("_", "."): value for name, value in more.items()},
            "log_level": 2,  # an outage is told by errors, not by a line a second per client
        }

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Kafka's errors become `EngineUnavailableError`."""
        try:
            yield
        except (KafkaException, FutureTimeoutError, RuntimeError) as error:
            raise self.unavailable(error) from error

    def answer(self, ask: Callable[[], T]) -> T:
        """What Kafka answers, asked again while it is busy electing or loading.

        Raises:
            EngineUnavailableError: it did not answer for `REQUEST_SECONDS`.
        """
        deadline = time.monotonic() + REQUEST_SECONDS
        with self.asked():
            while True:
                try:
                    return ask()
                except KafkaException as error:
                    if error.args[0].code() not in _BUSY or time.monotonic() > deadline:
                        raise
                time.sleep(_AGAIN_SECONDS)

    def unavailable(self, error: object) -> EngineUnavailableError:
        """The error that says so."""
        return EngineUnavailableError(f"Kafka at {self.servers} does not answer: {error}")

    def stored(self, message: Message) -> Stored:
        """The message as a record; what is no CloudEvent has a type that no schema knows."""
        name, partition, offset = message.topic(), message.partition(), message.offset()
        position = Position((name or "")[len(self._prefix) :], partition or 0, offset or 0)
        value, headers = message.value() or b"", dict(message.headers() or ())
        written_at = 1000 * message.timestamp()[1]
        try:
            event = from_cloud_event(value)
        except UnknownEventError as error:
            _LOG.warning("%s: %s", position, error)
            key = (message.key() or b"").decode(errors="replace")
            record = Record(position, str(position), key, "", value, written_at)
            return Stored(record, b"")
        key, at = event.subject, event.published_at or written_at
        record = Record(position, event.id, key, event.type, event.body, at)
        fingerprint = headers.get(FINGERPRINT)
        if not isinstance(fingerprint, bytes):
            fingerprint = NewEvent(event.id, key, event.type, event.body).identity()
        return Stored(record, fingerprint)


class Reader:
    """Reads one partition at a time from an offset on; safe for threads."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._consumer: Consumer | None = None

    def fetch(
        self, place: Place, start: int, stop: int = _FAR, limit: int = _FAR
    ) -> Iterator[Stored]:
        """At most `limit` events that lie from `start` up to `stop`, or to the end if nearer.

        Raises:
            EngineUnavailableError: nothing came for `REQUEST_SECONDS`.
        """
        with self._lock, self._cluster.asked():
            consumer, partition = self._opened(), self._cluster.partition(place)
            oldest, end = self._cluster.answer(
                lambda: consumer.get_watermark_offsets(partition, REQUEST_SECONDS)
            )
            start, stop = max(start, oldest), min(stop, end)
            if start >= stop:
                return
            consumer.assign([self._cluster.partition(place, start)])
            try:
                yield from self._fetch(consumer, start, stop, limit)
            finally:
                consumer.unassign()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._consumer is not None:
                self._consumer.close()
                self._consumer = None

    def _fetch(self, consumer: Consumer, offset: int, stop: int, limit: int) -> Iterator[Stored]:
        deadline = time.monotonic() + REQUEST_SECONDS
        while offset < stop and limit > 0:
            for message in _next(consumer, min(stop - offset, limit, _CHUNK)):
                error, at = message.error(), message.offset() or 0
                if error is None and at < stop:
                    offset, limit, deadline = at + 1, limit - 1, time.monotonic() + REQUEST_SECONDS
                    yield self._cluster.stored(message)
                elif error is None or error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                    return
                elif error.code() not in _BUSY and not error.retriable():
                    raise KafkaException(error)
            if time.monotonic() > deadline:
                text = f"nothing came for {REQUEST_SECONDS:g} s"
                raise RuntimeError(text)

    def _opened(self) -> Consumer:
        if self._consumer is None:
            self._consumer = Consumer(
                self._cluster.config(
                    group_id=self._cluster.name("reader"),  # it never joins nor commits
                    enable_auto_commit=False,
                    enable_auto_offset_store=False,
                    enable_partition_eof=True,
                    auto_offset_reset="earliest",
                    fetch_wait_max_ms=5,  # questions wait behind a fetch that waits for news
                )
            )
        return self._consumer


def _next(consumer: Consumer, limit: int) -> list[Message]:
    """At most `limit` messages: waits for the first only."""
    first = consumer.poll(0.2)
    if first is None:
        return []
    return [first, *(consumer.consume(limit - 1, 0) if limit > 1 else ())]
