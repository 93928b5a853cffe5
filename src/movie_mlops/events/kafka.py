"""The event log on Apache Kafka 4: idempotent producer, consumer groups of KIP-848."""

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from movie_mlops.domain.errors import (
    ConfigurationError,
    EngineUnavailableError,
    UnknownEventError,
)
from movie_mlops.events.base import (
    NewEvent,
    Place,
    Positions,
    Published,
    Record,
)
from movie_mlops.events.kafka_members import Member
from movie_mlops.events.kafka_producer import Sender
from movie_mlops.events.kafka_reader import REQUEST_SECONDS, Cluster, Reader
from movie_mlops.events.repeats import Repeats

_PING_SECONDS = 1.0
_TOPICS_SECONDS = 1.0
_LOG = logging.getLogger(__name__)


class KafkaEventLog:
    """The port's promises, with these of its own.

    - `publish` returns when every replica in step has the events, and gives up after
      `PUBLISH_SECONDS`. Of a call that raises `EngineUnavailableError` some events may be stored,
      now or a moment later, each at most once: a transaction would mend that at the price of a
      round trip or two. Publish again under the same ids: readers know repeats by them.
    - Ids are not looked up when publishing (only within one call); `events/repeats.py` says what
      readers notice. An id belongs to its key: the same id under another key lies in another
      partition and is another event.
    - It may be opened before its brokers are there: until then the calls say that none answers.
    - What waits to be sent is bounded (`MOST_WAITING` events); more are a `LogFullError`.
    """

    def __init__(self, servers: str, topics: Mapping[str, int], prefix: str = "") -> None:
        self._cluster, self._topics = Cluster(servers, prefix), dict(topics)
        self._lock = threading.RLock()
        self._members: dict[str, Member] = {}
        self._reader = Reader(self._cluster)
        self._read_lock, self._repeats = threading.Lock(), Repeats(self._reader.fetch)
        self._admin = AdminClient(self._cluster.config())
        self._closed = threading.Event()
        self._misfit: ConfigurationError | None = None
        try:
            self._make_topics()
        except EngineUnavailableError as error:
            _LOG.warning("%s; it is asked for its topics until it does", error)
            threading.Thread(target=self._await_topics, name="kafka-topics", daemon=True).start()
        self._sender = Sender(self._cluster, self._topics)

    def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Published]:
        """Append durably; see the port."""
        return self.publish_future(topic, events).result()

    def publish_future(self, topic: str, events: Sequence[NewEvent]) -> Future[list[Published]]:
        """Append; the future is done when all replicas in step have it. See the port."""
        self._known([topic])
        return self._sender.send(topic, events)

    def poll(
        self, group: str, topics: Sequence[str], limit: int, wait_seconds: float = 0.0
    ) -> list[Record]:
        """Next events of the group; see the port."""
        places, member = self._known(topics), self._member(group)
        if member.is_alone and not all(map(member.owns, places)):
            committed = self.committed(group, topics)
            member.seek({place: committed[place] for place in places if not member.owns(place)})
        return member.poll(topics, limit, wait_seconds)

    def commit(self, group: str, positions: Positions) -> None:
        """Remember durably; see the port."""
        with self._lock:
            self._check_open()
            member = self._members.get(group)
        if member is not None and not member.is_alone and not member.is_over:
            member.commit(positions)
        elif positions:
            wanted = [self._cluster.partition(place, at) for place, at in positions.items()]
            request = ConsumerGroupTopicPartitions(self._cluster.name(group), wanted)
            self._cluster.answer(lambda: self._store_offsets(request))

    def seek(self, group: str, positions: Positions) -> None:
        """Move the cursor of this object; see the port."""
        self._known([place.topic for place in positions])
        self._member(group, alone=True).seek(positions)

    def skip(self, group: str, positions: Positions) -> None:
        """Do nothing: what the client has fetched ahead would be fetched again. See the port."""

    def committed(self, group: str, topics: Sequence[str]) -> dict[Place, int]:
        """Committed offsets; see the port."""
        places = self._known(topics)
        wanted = [self._cluster.partition(place) for place in places]
        request = ConsumerGroupTopicPartitions(self._cluster.name(group), wanted)
        known = self._cluster.answer(lambda: self._stored_offsets(request))
        return {place: max(known.get(place, 0), 0) for place in places}

    def end_positions(self, topics: Sequence[str]) -> dict[Place, int]:
        """Next offsets; see the port."""
        places = self._known(topics)
        return self._cluster.answer(lambda: self._ends(places))

    def read(self, place: Place, from_offset: int, limit: int) -> list[Record]:
        """Events without a group; see the port."""
        self._known([place.topic])
        with self._read_lock:
            self._repeats.continues(place, from_offset)
            return self._repeats.judged([*self._reader.fetch(place, from_offset, limit=limit)])

    def lag(self, group: str, topics: Sequence[str]) -> dict[str, int]:
        """Events that are not committed; see the port."""
        committed = self.committed(group, topics)
        behind = dict.fromkeys(topics, 0)
        for place, end in self.end_positions(topics).items():
            behind[place.topic] += end - committed[place]
        return behind

    def trim(self, positions: Positions) -> None:
        """Let the brokers delete the records; see the port."""
        self._check_open()
        asked = [self._cluster.partition(place, offset) for place, offset in positions.items()]
        with self._cluster.asked():
            futures = self._admin.delete_records(asked, request_timeout=REQUEST_SECONDS)
            for future in futures.values():
                self._cluster.answer(future.result)

    def ping(self) -> None:
        """Ask for one topic; see the port."""
        with self._cluster.asked():
            self._check_open()
            topic = self._cluster.name(next(iter(self._topics)))
            self._admin.list_topics(topic, timeout=_PING_SECONDS)

    def close(self) -> None:
        """Send what is waiting, leave the groups, then refuse; see the port."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
        self._sender.close()
        for member in self._members.values():
            member.close()
        self._reader.close()

    def _check_open(self) -> None:
        if self._misfit is not None:
            raise self._misfit
        if self._closed.is_set():
            message = f"the event log on Kafka at {self._cluster.servers} is closed"
            raise EngineUnavailableError(message)

    def _known(self, topics: Sequence[str]) -> list[Place]:
        self._check_open()
        for topic in topics:
            if topic not in self._topics:
                message = f"no topic {topic!r}; there are {', '.join(self._topics)}"
                raise UnknownEventError(message)
        return [Place(topic, part) for topic in topics for part in range(self._topics[topic])]

    def _member(self, group: str, *, alone: bool = False) -> Member:
        """The group's member in this object; a new one is `alone` as asked."""
        with self._lock, self._cluster.asked():
            self._check_open()
            member = self._members.get(group)
            if member is None or member.is_over:
                if member is not None:
                    member.close()
                member = Member(self._cluster, group, self._reader, alone=alone)
                self._members[group] = member
            return member

    def _store_offsets(self, request: ConsumerGroupTopicPartitions) -> None:
        answers = self._admin.alter_consumer_group_offsets(
            [request], request_timeout=REQUEST_SECONDS
        )
        done = answers[request.group_id].result(REQUEST_SECONDS)
        for each in done.topic_partitions or ():
            if each.error is not None:
                raise KafkaException(each.error)

    def _stored_offsets(self, request: ConsumerGroupTopicPartitions) -> dict[Place, int]:
        answers = self._admin.list_consumer_group_offsets(
            [request], request_timeout=REQUEST_SECONDS
        )
        try:
            found = answers[request.group_id].result(REQUEST_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise
            return {}
        return {self._cluster.place(each): each.offset for each in found.topic_partitions or ()}

    def _ends(self, places: Sequence[Place]) -> dict[Place, int]:
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        answers = self._admin.list_offsets(
            {self._cluster.partition(place): latest for place in places},
            request_timeout=REQUEST_SECONDS,
        )
        return {
            self._cluster.place(partition): answer.result(REQUEST_SECONDS).offset
            for partition, answer in answers.items()
        }

    def _await_topics(self) -> None:
        while not self._closed.wait(_TOPICS_SECONDS):
            try:
                return self._make_topics()
            except EngineUnavailableError:
                continue
            except ConfigurationError as error:
                _LOG.error("%s", error)
                self._misfit = error
                return None
        return None

    def _make_topics(self) -> None:
        with self._cluster.asked():
            self._make_missing()

    def _make_missing(self) -> None:
        there = self._admin.list_topics(timeout=REQUEST_SECONDS).topics
        for topic, partitions in self._topics.items():
            found = there.get(self._cluster.name(topic))
            if found is not None and len(found.partitions) < partitions:
                message = (
                    f"Kafka's topic {self._cluster.name(topic)} has {len(found.partitions)} "
                    f"partitions and needs {partitions}; add some (kafka-topics --alter)"
                )
                raise ConfigurationError(message)
        missing = [
            NewTopic(name, partitions)
            for topic, partitions in self._topics.items()
            if (name := self._cluster.name(topic)) not in there
        ]
        if missing:
            for made in self._admin.create_topics(missing).values():
                try:
                    made.result(2 * REQUEST_SECONDS)
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise
