"""A member of a Kafka consumer group: polling, rebalances, commits that move nothing back."""

import logging
import threading
import time
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.events.base import Place, Positions, Record
from movie_mlops.events.kafka_reader import REQUEST_SECONDS, Cluster, Reader
from movie_mlops.events.repeats import Repeats, Stored
from movie_mlops.monitoring.metrics import EVENTS_EXPIRED

_SLICE_SECONDS = 0.2  # how long others wait for the lock
_MOST_AT_ONCE = 100_000
_LOG = logging.getLogger(__name__)
_REJOINED = {
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.FENCED_MEMBER_EPOCH,
    KafkaError.STALE_MEMBER_EPOCH,
}


class Member:
    """One consumer of one group. Safe for threads; a call may wait for another's slice.

    Members of a group share its partitions, Kafka deals them out (KIP-848). To one that is alone
    nothing is dealt: it reads the partitions that `seek` gives it.
    """

    def __init__(self, cluster: Cluster, group: str, reader: Reader, *, alone: bool) -> None:
        self._cluster, self._group = cluster, group
        self.is_alone = alone
        self._repeats = Repeats(reader.fetch)
        self._lock = threading.RLock()
        self._topics: frozenset[str] = frozenset()
        self._owned: set[Place] = set()
        self._lost: set[Place] = set()  # owned before: somebody else may have gone on there
        self._wanted: dict[Place, int] = {}  # where to begin when the place is dealt to us
        self._expired: dict[Place, int | None] = {}
        self._trouble: KafkaError | None = None
        self.is_over = False
        self._consumer = Consumer(
            cluster.config(
                group_id=cluster.name(group),
                group_protocol="consumer",
                enable_auto_commit=False,
                enable_auto_offset_store=False,
                auto_offset_reset="error",  # so that what retention removed is told
            )
        )

    def poll(self, topics: Sequence[str], limit: int, wait_seconds: float) -> list[Record]:
        """See the port.

        Raises:
            EngineUnavailableError: Kafka has told us of trouble, or put this member out.
        """
        deadline = time.monotonic() + wait_seconds
        while True:
            left = max(deadline - time.monotonic(), 0.0)
            with self._lock, self._cluster.asked():
                self._listen(topics)
                self._pass_over_expired()
                records = self._next(limit, min(left, _SLICE_SECONDS))
            if records or left <= 0:
                return records

    def commit(self, positions: Positions) -> None:
        """Commit for what this member still owns; the rest is for whoever owns it now.

        Raises:
            EngineUnavailableError: it is not known to be committed.
        """
        with self._lock, self._cluster.asked():
            self._consumer.list_topics(timeout=REQUEST_SECONDS)  # a commit waits without end
            kept = {place: offset for place, offset in positions.items() if place in self._owned}
            if returned := kept.keys() & self._lost:
                there = self._consumer.committed(
                    [self._cluster.partition(place) for place in returned], REQUEST_SECONDS
                )
                behind = {self._cluster.place(each): each.offset for each in there}
                kept = {at: offset for at, offset in kept.items() if offset >= behind.get(at, -1)}
            if len(kept) < len(positions):
                _LOG.warning("group %s: partitions changed hands, not committed", self._group)
            if not kept:
                return
            wanted = [self._cluster.partition(place, offset) for place, offset in kept.items()]
            for done in self._consumer.commit(offsets=wanted, asynchronous=False) or ():
                if done.error is not None:
                    raise self._cluster.unavailable(done.error)
            self._lost -= kept.keys()

    def seek(self, positions: Positions) -> None:
        """Go on at these offsets: now where the place is owned, else when it is."""
        with self._lock, self._cluster.asked():
            self._repeats.forget(positions)
            self._lost -= positions.keys()
            here = positions.keys() if self.is_alone else positions.keys() & self._owned
            self._begin({place: offset for place, offset in positions.items() if place in here})
            self._wanted |= {at: offset for at, offset in positions.items() if at not in here}

    def owns(self, place: Place) -> bool:
        """Whether this member reads the partition now."""
        return place in self._owned

    def close(self) -> None:
        """Leave the group."""
        with self._lock:
            self.is_over = True
            self._consumer.close()

    def _listen(self, topics: Sequence[str]) -> None:
        if self.is_over:
            message = f"group {self._group} is closed"
            raise EngineUnavailableError(message)
        if not self.is_alone and not self._topics.issuperset(topics):
            self._topics |= frozenset(topics)
            self._consumer.subscribe(
                [self._cluster.name(topic) for topic in self._topics],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_revoke,
            )

    def _begin(self, positions: Positions) -> None:
        """Read these places from these offsets (Kafka's seek wants a partition in full flow)."""
        again = [self._cluster.partition(place) for place in positions if place in self._owned]
        if again:
            self._consumer.incremental_unassign(again)
        self._consumer.incremental_assign(
            [self._cluster.partition(place, offset) for place, offset in positions.items()]
        )
        self._owned |= positions.keys()

    def _next(self, limit: int, wait_seconds: float) -> list[Record]:
        first = self._consumer.poll(wait_seconds)
        messages = [] if first is None else [first]
        if first is not None and limit > 1:
            messages += self._consumer.consume(min(limit - 1, _MOST_AT_ONCE), 0)
        stored: list[Stored] = []
        for message in messages:
            error = message.error()
            if error is None:
                stored.append(self._cluster.stored(message))
            else:
                self._note(error, message)
        try:
            records = self._repeats.judged(stored)
        except EngineUnavailableError:
            self._put_back(stored)
            raise
        if self._trouble is not None and not records:
            error, self._trouble = self._trouble, None
            raise self._cluster.unavailable(error)
        return records

    def _put_back(self, stored: Sequence[Stored]) -> None:
        """What was taken comes again with the next poll."""
        firsts: dict[Place, int] = {}
        for record, _ in stored:
            topic, partition, offset = record.position
            firsts.setdefault(Place(topic, partition), offset)
        self.seek({place: offset for place, offset in firsts.items() if place in self._owned})

    def _note(self, error: KafkaError, message: Message) -> None:
        code = error.code()
        if code == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 (its public name)
            place = self._cluster.place(
                TopicPartition(message.topic() or "", message.partition() or 0)
            )
            self._expired[place] = message.offset()
        elif code == KafkaError._MAX_POLL_EXCEEDED:  # noqa: SLF001 (its public name)
            _LOG.warning("group %s handled one batch for too long and joins again", self._group)
        else:
            self._trouble = error
            self.is_over |= not self.is_alone and (error.fatal() or code in _REJOINED)

    def _pass_over_expired(self) -> None:
        """Go on at the oldest event that there is, and say how many are gone."""
        for place, wanted in tuple(self._expired.items()):
            if place in self._owned:
                partition = self._cluster.partition(place)
                oldest, _ = self._consumer.get_watermark_offsets(partition, REQUEST_SECONDS)
                if wanted is not None:  # a new group begins with the oldest and misses nothing
                    gone = max(oldest - wanted, 0)
                    EVENTS_EXPIRED.labels(place.topic, self._group).inc(gone)
                    _LOG.error(
                        "group %s: offset %d of %s:%d is not there, %d events have expired unread",
                        self._group, wanted, *place, gone,
                    )  # fmt: skip
                self._repeats.forget([place])
                self._begin({place: oldest})
            del self._expired[place]

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            place = self._cluster.place(partition)
            self._owned.add(place)
            partition.offset = self._wanted.pop(place, partition.offset)
        consumer.incremental_assign(partitions)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        del consumer
        places = {self._cluster.place(partition) for partition in partitions}
        self._owned -= places
        self._lost |= places
        self._repeats.forget(places)
