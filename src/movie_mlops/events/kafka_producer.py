"""Publishing to Kafka: one idempotent producer, a bounded queue, one future per call."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from movie_mlops.domain.errors import (
    EngineUnavailableError,
    EventConflictError,
    EventError,
    LogFullError,
    MovieMlopsError,
)
from movie_mlops.events.base import NewEvent, Position, Published, partition_of
from movie_mlops.events.cloud_events import CONTENT_TYPE, to_cloud_event
from movie_mlops.events.kafka_reader import FINGERPRINT, Cluster

PUBLISH_SECONDS = 5.0
LARGEST_BYTES = 1_000_000
MOST_WAITING = 50_000
_MOST_WAITING_KB = 65_536
_FULL = "too many events wait to be sent to Kafka"
_LOG = logging.getLogger(__name__)
_Failure = KafkaError | MovieMlopsError
_Told = Callable[[_Failure | None, Message | None], None]


class Sender:
    """Sends events and tells when Kafka has them; safe for threads."""

    def __init__(self, cluster: Cluster, topics: Mapping[str, int]) -> None:
        self._cluster, self._topics = cluster, topics
        self._lock = threading.RLock()  # who is told of a failure may publish again at once
        self._is_broken, self._closed = False, False
        self._producer = self._make_producer()
        self._thread = threading.Thread(target=self._serve, name="event-log", daemon=True)
        self._thread.start()

    def send(self, topic: str, events: Sequence[NewEvent]) -> Future[list[Published]]:
        """Append the events; see the port's `publish`."""
        places, distinct = _distinct(events)
        now = time.time_ns() // 1000
        values = [
            to_cloud_event(event.event_id, event.key, event.type, event.body, now)
            for event in distinct
        ]
        if (largest := max(map(len, values), default=0)) > LARGEST_BYTES:
            message = f"an event of {largest} bytes; the log takes {LARGEST_BYTES} with its names"
            raise EventError(message)
        batch = _Batch(self._cluster, topic, places, len(distinct))
        with self._lock:
            if self._closed:
                message = f"the event log on Kafka at {self._cluster.servers} is closed"
                raise EngineUnavailableError(message)
            if len(self._producer) + len(distinct) > MOST_WAITING:
                raise LogFullError(_FULL)
            if self._is_broken:
                self._renew()
            for number, (event, value) in enumerate(zip(distinct, values, strict=True)):
                self._produce(topic, event, value, partial(batch.told, number))
        return batch.future

    def close(self) -> None:
        """Send what is waiting, for `PUBLISH_SECONDS` at most; the rest is told that it failed."""
        with self._lock:
            self._closed = True
        self._thread.join()
        if self._producer.flush(PUBLISH_SECONDS):
            self._purge(self._producer)

    def _make_producer(self) -> Producer:
        return Producer(
            self._cluster.config(
                enable_idempotence=True,  # with it acks=all, and retries that repeat nothing
                delivery_timeout_ms=int(1000 * PUBLISH_SECONDS),
                linger_ms=0.5,
                message_max_bytes=LARGEST_BYTES + 10_000,
                queue_buffering_max_messages=MOST_WAITING,
                queue_buffering_max_kbytes=_MOST_WAITING_KB,
            )
            | {"error_cb": self._on_error}
        )

    def _produce(self, topic: str, event: NewEvent, value: bytes, told: _Told) -> None:
        headers: list[tuple[str, str | bytes | None]] = [
            ("content-type", CONTENT_TYPE),
            (FINGERPRINT, event.identity()),
        ]
        try:
            self._producer.produce(
                self._cluster.name(topic),
                value,
                event.key.encode(),
                partition_of(event.key, self._topics[topic]),
                on_delivery=told,
                headers=headers,
            )
        except BufferError:
            told(LogFullError(_FULL), None)
        except KafkaException as error:
            self._on_error(error.args[0])
            told(error.args[0], None)

    def _on_error(self, error: KafkaError) -> None:
        self._is_broken |= error.fatal()

    def _renew(self) -> None:
        """After a fatal error of the idempotent producer: who waits is told, others go on."""
        _LOG.error("Kafka's producer has failed for good; a new one takes over")
        old, self._producer = self._producer, self._make_producer()
        self._is_broken = False
        self._purge(old)

    def _purge(self, producer: Producer) -> None:
        producer.purge()
        producer.flush(1.0)

    def _serve(self) -> None:
        while not self._closed:
            with contextlib.suppress(KafkaException):
                self._producer.poll(0.1)


class _Batch:
    """The events of one call on their way; the last one to arrive settles the future."""

    def __init__(self, cluster: Cluster, topic: str, places: list[int], count: int) -> None:
        self.future: Future[list[Published]] = Future()
        self.future.set_running_or_notify_cancel()  # on its way: nobody can call it back
        self._cluster, self._topic, self._places = cluster, topic, places
        self._found: dict[int, Position] = {}
        self._left = count
        self._error: _Failure | None = None
        self._lock = threading.Lock()
        if count == 0:
            self.future.set_result([])

    def told(self, number: int, error: _Failure | None, message: Message | None) -> None:
        """Note what became of one event."""
        with self._lock:
            if error is not None or message is None:
                self._error = error
            elif (offset := message.offset()) is None or offset < 0:
                # stored by a try before this one, whose answer was lost
                self._error = self._cluster.unavailable("the position is not known")
            else:
                self._found[number] = Position(self._topic, message.partition() or 0, offset)
            self._left -= 1
            is_last = self._left == 0
        if not is_last:
            return
        if self._error is not None:
            self.future.set_exception(self._translated(self._error))
            return
        seen: set[int] = set()
        done = []
        for place in self._places:
            done.append(Published(self._found[place], is_duplicate=place in seen))
            seen.add(place)
        self.future.set_result(done)

    def _translated(self, error: _Failure) -> MovieMlopsError:
        if not isinstance(error, KafkaError):
            return error
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return EventError(f"Kafka takes no event of this size: {error}")
        return self._cluster.unavailable(error)


def _distinct(events: Sequence[NewEvent]) -> tuple[list[int], list[NewEvent]]:
    """For every event its place among those with different ids, and these."""
    numbers: dict[str, int] = {}
    distinct: list[NewEvent] = []
    places = []
    for event in events:
        place = numbers.setdefault(event.event_id, len(distinct))
        if place == len(distinct):
            f"{event.event_id}{event.key}{event.type}".encode()  # lone surrogates stop here
            distinct.append(event)
        elif distinct[place].identity() != event.identity():
            message = f"event id {event.event_id!r} was used before for another event"
            raise EventConflictError(message)
        places.append(place)
    return places, distinct
