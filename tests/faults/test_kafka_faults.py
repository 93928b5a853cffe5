"""Faults 14 and 23-27 on a real Kafka broker; errors that it never gives, on librdkafka's mock."""

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from tests.kafka_broker import Broker, find_kafka
from tests.kafka_mock import OFFSET_COMMIT, PRODUCE, mocked

from movie_mlops.domain.errors import EngineUnavailableError, LogFullError
from movie_mlops.domain.interactions import InteractionType
from movie_mlops.events import EventLog, kafka_producer, open_event_log
from movie_mlops.events import kafka as kafka_log
from movie_mlops.events.base import (
    NewEvent,
    Place,
    Record,
    Standing,
    next_positions,
    parse_position,
    partition_of,
)
from movie_mlops.events.consumer import Consumer, ConsumerOptions
from movie_mlops.events.kafka import KafkaEventLog
from movie_mlops.events.schemas import (
    DEAD_LETTERS,
    TOPICS,
    USER_EVENTS,
    UserInteractionEvent,
    decode,
    encode,
)
from movie_mlops.models.algorithms import load
from movie_mlops.models.serving.follower import HistoriesFollower
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import ModelLoader
from movie_mlops.monitoring import metrics

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
PLACES = [Place(USER_EVENTS, part) for part in range(TOPICS[USER_EVENTS])]


@pytest.fixture
def prefix() -> str:
    return secrets.token_hex(6) + "."


@pytest.fixture
def url(kafka: Broker, prefix: str) -> str:
    return f"kafka://{kafka.servers}/{prefix}"


@pytest.fixture
def log(url: str, tmp_path: Path) -> Iterator[EventLog]:
    opened = open_event_log(url, tmp_path, 0)
    yield opened
    opened.close()


def event(number: int, key: str | None = None) -> NewEvent:
    return NewEvent(f"id-{number}", key or str(number), "t.v1", b"{}")


def like(event_id: str, user: str, film: int) -> NewEvent:
    return encode(UserInteractionEvent(user, film, InteractionType.LIKE, NOON), event_id)


def take(
    log: EventLog, group: str, count: int, topic: str = USER_EVENTS, seconds: float = 40
) -> list[Record]:
    found: list[Record] = []
    deadline = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < deadline:
        try:
            found += log.poll(group, [topic], 1000, wait_seconds=0.5)
        except EngineUnavailableError:
            time.sleep(0.1)
    return found


def publish_at_last(log: EventLog, one: NewEvent) -> None:
    """As whoever is told to come again."""
    deadline = time.monotonic() + 30
    while True:
        try:
            log.publish(USER_EVENTS, [one])
        except EngineUnavailableError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


class Load:
    """Four threads that publish, each trying again under the same id, and one that reads."""

    def __init__(self, url: str, home: Path) -> None:
        self._url, self._home = url, home
        self._log = open_event_log(url, home, 0)
        self.acknowledged: dict[str, str] = {}
        self.handled: list[Record] = []
        self._stop, self._all_said = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=self._publish, args=(each,)) for each in range(4)]
        self._reader = threading.Thread(target=self._read)
        for thread in (*self._threads, self._reader):
            thread.start()

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.acknowledged) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        self._all_said.set()
        self._reader.join(60)
        assert not self._reader.is_alive()
        self._log.close()

    def _publish(self, thread: int) -> None:
        number = 0
        while not self._stop.is_set():
            one = event(1_000_000 * thread + number)
            try:
                self.acknowledged[one.event_id] = str(
                    self._log.publish(USER_EVENTS, [one])[0].position
                )
                number += 1
            except EngineUnavailableError:
                time.sleep(0.05)

    def _read(self) -> None:
        reader = open_event_log(self._url, self._home, 0)
        seen: set[str] = set()
        while not self._all_said.is_set() or not self.acknowledged.keys() <= seen:
            try:
                records = reader.poll("worker", [USER_EVENTS], 500, 0.2)
                self.handled += records
                seen |= {record.event_id for record in records}
                reader.commit("worker", next_positions(records))
            except EngineUnavailableError:
                time.sleep(0.05)
        reader.close()


@pytest.mark.slow
def test_killed_under_load_the_broker_loses_nothing_and_nothing_counts_twice(
    kafka: Broker, url: str, tmp_path: Path
) -> None:
    """Faults 14, 25 and 77: kill -9 of the broker, started again on the same files."""
    load = Load(url, tmp_path)
    load.wait_for(300)
    kafka.kill()
    before = len(load.acknowledged)
    time.sleep(0.5)
    kafka.start()
    load.wait_for(before + 300)
    load.end()
    log = open_event_log(url, tmp_path, 0)
    lying = [record for place in PLACES for record in log.read(place, 0, 10**6)]
    log.close()
    where = {str(record.position): record.event_id for record in lying}
    assert all(where[position] == name for name, position in load.acknowledged.items())
    firsts = {str(r.position): r.event_id for r in load.handled if r.standing is Standing.FIRST}
    assert sorted(firsts.values()) == sorted(set(firsts.values()))
    assert load.acknowledged.keys() <= set(firsts.values())


@pytest.mark.slow
def test_a_broker_that_hangs_is_an_outage_and_then_over(
    kafka: Broker, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 25: who publishes is told, the queue is bounded, who reads goes on afterwards."""
    monkeypatch.setattr(kafka_producer, "PUBLISH_SECONDS", 1.0)
    monkeypatch.setattr(kafka_producer, "MOST_WAITING", 100)
    log = open_event_log(url, tmp_path, 0)
    publish_at_last(log, event(1))
    assert take(log, "worker", 1)
    kafka.freeze()
    try:
        with pytest.raises(EngineUnavailableError, match="Kafka at 127") as told:
            log.publish_future(USER_EVENTS, [event(2)]).result(10)
        assert told.value.retry_after_seconds > 0
        with pytest.raises(EngineUnavailableError):
            log.ping()
        waiting = [log.publish_future(USER_EVENTS, [event(3 + each)]) for each in range(100)]
        with pytest.raises(LogFullError):
            log.publish_future(USER_EVENTS, [event(1000)])
        with pytest.raises(EngineUnavailableError):
            log.commit("worker", {PLACES[0]: 0})
        assert all(isinstance(each.exception(10), EngineUnavailableError) for each in waiting)
    finally:
        kafka.thaw()
    publish_at_last(log, event(2000))
    deadline = time.monotonic() + 30
    seen: set[str] = set()
    while "id-2000" not in seen and time.monotonic() < deadline:
        seen |= {record.event_id for record in take(log, "worker", 1, seconds=5)}
    assert "id-2000" in seen
    log.close()


def test_a_closed_log_does_not_wait_for_a_broker_that_is_gone(
    kafka: Broker, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 25 and 57: what could not be sent is told so, and the process can end."""
    monkeypatch.setattr(kafka_producer, "PUBLISH_SECONDS", 1.0)
    log = open_event_log(url, tmp_path, 0)
    publish_at_last(log, event(1))
    assert take(log, "worker", 1)
    kafka.freeze()
    try:
        sent = log.publish_future(USER_EVENTS, [event(2)])
        began = time.monotonic()
        log.close()
        assert time.monotonic() - began < 20
        assert isinstance(sent.exception(0), EngineUnavailableError)
    finally:
        kafka.thaw()


_CONSUMER = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from movie_mlops.events import open_event_log
log = open_event_log(sys.argv[1], Path("."), 0)
handled = 0
while handled < 10:
    handled += len(log.poll("worker", ["user-events"], 10, 1.0))
print("handled", flush=True)
time.sleep(60)
"""


def test_killed_between_handling_and_commit_events_come_again(log: EventLog, url: str) -> None:
    """Fault 23."""
    log.publish(USER_EVENTS, [event(number) for number in range(10)])
    command = [sys.executable, "-c", _CONSUMER, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "handled\n"
        os.kill(child.pid, signal.SIGKILL)
    again = take(log, "worker", 10)
    assert {record.event_id for record in again} == {f"id-{number}" for number in range(10)}
    assert {record.standing for record in again} == {Standing.FIRST}
    log.commit("worker", next_positions(again))
    assert log.lag("worker", [USER_EVENTS]) == {USER_EVENTS: 0}


@pytest.mark.slow
def test_a_rebalance_in_the_middle_of_a_batch_loses_nothing_and_moves_nothing_back(
    log: EventLog, url: str, tmp_path: Path
) -> None:
    """Fault 24: a second member takes partitions over while the first handles its batch."""
    log.publish(USER_EVENTS, [event(number) for number in range(60)])
    ends = log.end_positions([USER_EVENTS])
    batch = take(log, "worker", 60)
    assert len(batch) == 60
    other = open_event_log(url, tmp_path, 0)
    theirs: list[Record] = []
    deadline = time.monotonic() + 40
    while not theirs and time.monotonic() < deadline:
        log.poll("worker", [USER_EVENTS], 10)  # gives partitions away
        theirs += other.poll("worker", [USER_EVENTS], 1000, 0.2)
    theirs += take(other, "worker", 1000, seconds=2)
    other.commit("worker", next_positions(theirs))
    taken = {Place(*record.position[:2]) for record in theirs}
    assert taken < set(PLACES)
    assert next_positions(theirs) == {place: ends[place] for place in taken}
    log.commit("worker", dict.fromkeys(PLACES, 1))  # the first events of its batch only
    committed = log.committed("worker", [USER_EVENTS])
    assert committed == {place: ends[place] if place in taken else 1 for place in PLACES}
    other.close()
    rest = take(log, "worker", 1, seconds=8)  # partitions come back: nothing is handled again
    assert not [record for record in rest if Place(*record.position[:2]) in taken]
    deadline = time.monotonic() + 20
    while log.committed("worker", [USER_EVENTS]) != ends and time.monotonic() < deadline:
        log.poll("worker", [USER_EVENTS], 10, 0.2)
        log.commit("worker", next_positions(batch))
    assert log.committed("worker", [USER_EVENTS]) == ends
    log.commit("worker", dict.fromkeys(taken, 1))


def remove_before(kafka: Broker, prefix: str, place: Place, offset: int) -> None:
    """What retention does, at once."""
    admin = AdminClient({"bootstrap.servers": kafka.servers})
    at = TopicPartition(prefix + place.topic, place.partition, offset)
    for done in admin.delete_records([at]).values():
        done.result(10)


def test_what_retention_removed_unread_is_said_and_passed_over(
    kafka: Broker, prefix: str, log: EventLog, url: str, tmp_path: Path
) -> None:
    """Fault 27, for the worker's group and for a replica's histories."""
    log.publish(USER_EVENTS, [like(f"e{number}", "7", number) for number in range(10)])
    place = Place(USER_EVENTS, partition_of("7", 3))
    log.commit("worker", {place: 2})
    remove_before(kafka, prefix, place, 6)
    expired = metrics.EVENTS_EXPIRED.labels(USER_EVENTS, "worker")
    before = expired._value.get()
    other = open_event_log(url, tmp_path, 0)
    assert [record.position.offset for record in take(other, "worker", 4)] == [6, 7, 8, 9]
    assert expired._value.get() - before == 4
    assert [record.position.offset for record in other.read(place, 0, 10)] == [6, 7, 8, 9]
    other.close()
    histories = Histories(100)
    follower = HistoriesFollower(histories, log, ModelLoader(tmp_path, load), tmp_path, "api-0")
    follower.catch_up()
    assert sorted(histories.of("7").hidden.tolist()) == [6, 7, 8, 9]
    assert follower.lag() == 0
    remove_before(kafka, prefix, place, 10)  # nothing is left at all
    empty = Histories(100)
    late = HistoriesFollower(empty, log, ModelLoader(tmp_path, load), tmp_path, "api-1")
    late.catch_up()
    assert late.lag() == 0
    log.publish(USER_EVENTS, [like("e10", "7", 10)])
    late.catch_up()
    assert empty.of("7").hidden.tolist() == [10]


def test_repeats_count_once_and_another_event_under_an_id_is_a_dead_letter(
    log: EventLog,
) -> None:
    """Fault 14 where ids are not looked up when publishing."""
    log.publish(USER_EVENTS, [like("a", "7", 1)])
    log.publish(USER_EVENTS, [like("a", "7", 1)])
    log.publish(USER_EVENTS, [like("a", "7", 2)])
    log.publish(USER_EVENTS, [like("b", "7", 3)])
    handled: list[int] = []

    def handle(event: UserInteractionEvent, record: Record) -> None:
        handled.append(event.movie_id)

    consumer = Consumer(log, "worker", (USER_EVENTS,), {UserInteractionEvent: handle})
    deadline = time.monotonic() + 30
    while 3 not in handled and time.monotonic() < deadline:
        consumer.run_once(0.5)
    assert handled == [1, 3]
    [letter] = take(log, "reader", 1, DEAD_LETTERS)
    assert "used before" in decode(letter).reason
    assert log.lag("worker", [USER_EVENTS]) == {USER_EVENTS: 0}


def test_what_is_no_event_of_ours_is_a_dead_letter(
    kafka: Broker, prefix: str, log: EventLog
) -> None:
    """Faults 16 and 19: other programs write to the topic too."""
    stranger = Producer({"bootstrap.servers": kafka.servers})
    stranger.produce(f"{prefix}{USER_EVENTS}", b"\xff not json", b"7", 0)
    stranger.produce(f"{prefix}{USER_EVENTS}", None, None, 0)
    later = b'{"specversion":"1.0","id":"x","source":"/s","type":"user_interaction.v9","data":{}}'
    stranger.produce(f"{prefix}{USER_EVENTS}", later, b"7", 0)
    assert stranger.flush(10) == 0
    consumer = Consumer(log, "worker", (USER_EVENTS,), {})
    seen, deadline = 0, time.monotonic() + 30
    while seen < 3 and time.monotonic() < deadline:
        seen += consumer.run_once(0.5)
    letters = [decode(record) for record in take(log, "reader", 3, DEAD_LETTERS)]
    assert [letter.type for letter in letters] == ["", "", "user_interaction.v9"]


def test_errors_of_produce_requests_are_tried_again_without_repeats(tmp_path: Path) -> None:
    """Fault 25: what the broker answers while it elects or is short of replicas."""
    with mocked(dict(TOPICS)) as cluster:
        log = open_event_log(f"kafka://{cluster.servers}", tmp_path, 0)
        busy = [KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.REQUEST_TIMED_OUT, 6]
        cluster.answer(PRODUCE, busy)
        published = log.publish(USER_EVENTS, [event(number, "7") for number in range(300)])
        assert [done.position.offset for done in published] == list(range(300))
        place = parse_position(str(published[0].position))
        stored = log.read(Place(place.topic, place.partition), 0, 1000)
        assert [record.event_id for record in stored] == [f"id-{each}" for each in range(300)]
        log.close()


def test_a_producer_that_failed_for_good_is_replaced(tmp_path: Path) -> None:
    """Fault 77: the error is told, and the next event goes through."""
    with mocked(dict(TOPICS)) as cluster:
        log = cast("KafkaEventLog", open_event_log(f"kafka://{cluster.servers}", tmp_path, 0))
        log.publish(USER_EVENTS, [event(1)])
        cluster.answer(PRODUCE, [KafkaError.INVALID_PRODUCER_EPOCH] * 3)
        log._sender._is_broken = True
        first = log._sender._producer
        publish_at_last(log, event(2))
        assert log._sender._producer is not first
        log.close()


def test_a_commit_that_fails_is_told_and_made_up_for(tmp_path: Path) -> None:
    """Fault 26: handled once, committed with the next batch."""
    with mocked(dict(TOPICS)) as cluster:
        log = open_event_log(f"kafka://{cluster.servers}", tmp_path, 0)
        log.publish(USER_EVENTS, [like("a", "7", 1)])
        handled: list[int] = []

        def handle(event: UserInteractionEvent, record: Record) -> None:
            handled.append(event.movie_id)

        options = ConsumerOptions(commit_seconds=1e9)
        consumer = Consumer(log, "worker", (USER_EVENTS,), {UserInteractionEvent: handle}, options)
        deadline = time.monotonic() + 30
        while not handled and time.monotonic() < deadline:
            consumer.run_once(0.5)
        cluster.answer(OFFSET_COMMIT, [KafkaError.INVALID_COMMIT_OFFSET_SIZE])
        with pytest.raises(EngineUnavailableError):
            consumer.commit()
        consumer.commit()
        assert handled == [1]
        assert log.committed("worker", [USER_EVENTS])[Place(USER_EVENTS, partition_of("7", 3))] == 1
        log.close()


def test_a_log_that_is_opened_before_its_broker_works_when_the_broker_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 73: nobody has to be started first."""
    home, missing = find_kafka()
    if home is None:
        pytest.skip(missing)
    broker = Broker(home, tmp_path)
    monkeypatch.setattr(kafka_log, "REQUEST_SECONDS", 0.5)
    with closing(open_event_log(f"kafka://{broker.servers}", tmp_path, 0)) as log:
        for ask in (
            log.ping,
            lambda: log.end_positions([USER_EVENTS]),
            lambda: log.publish(USER_EVENTS, [event(1)]),
        ):
            with pytest.raises(EngineUnavailableError, match="does not answer"):
                ask()
        monkeypatch.undo()
        broker.start()
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    [done] = log.publish(USER_EVENTS, [event(2)])
                    break
                except EngineUnavailableError:
                    assert time.monotonic() < deadline
            at = done.position
            [record] = log.read(Place(at.topic, at.partition), at.offset, 1)
            assert record.event_id == event(2).event_id
        finally:
            log.close()
            broker.kill()
