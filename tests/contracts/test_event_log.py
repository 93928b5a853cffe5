"""What every event log must do; one parameter per engine.

A test marked `EMBEDDED` or `KAFKA` is a promise of that engine alone, where the port leaves room.
"""

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from movie_mlops.domain.errors import (
    ConfigurationError,
    EngineUnavailableError,
    EventConflictError,
    EventError,
    LogFullError,
    UnknownEventError,
)
from movie_mlops.events import EventLog, open_event_log
from movie_mlops.events.base import (
    NewEvent,
    Place,
    Position,
    Record,
    Standing,
    next_positions,
    parse_position,
    partition_of,
)
from movie_mlops.events.schemas import TOPICS, USER_EVENTS

BOUND = 50_000_000


EMBEDDED = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
KAFKA = pytest.mark.parametrize("url", ["kafka"], indirect=True)


@pytest.fixture(params=["sqlite", "kafka"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty log of this test's own."""
    if request.param == "sqlite":
        return "sqlite:var/events.db"
    broker = request.getfixturevalue("kafka")
    return f"kafka://{broker.servers}/{secrets.token_hex(6)}."


@pytest.fixture
def log(url: str, tmp_path: Path) -> Iterator[EventLog]:
    opened = open_event_log(url, tmp_path, BOUND)
    yield opened
    opened.close()


def take(log: EventLog, group: str, count: int, limit: int = 1000) -> list[Record]:
    """The group's next `count` records or a few more; over a network they come in pieces."""
    found: list[Record] = []
    deadline = time.monotonic() + 30
    while len(found) < count and time.monotonic() < deadline:
        found += log.poll(group, [USER_EVENTS], limit, wait_seconds=1.0)
    return found


def event(number: int, key: str | None = None, body: bytes = b"{}") -> NewEvent:
    return NewEvent(f"id-{number}", key or str(number), "user_interaction.v1", body)


def everything(log: EventLog, topic: str = USER_EVENTS) -> dict[Place, list[str]]:
    places = [Place(topic, part) for part in range(TOPICS[topic])]
    return {place: [record.event_id for record in log.read(place, 0, 10**6)] for place in places}


def test_an_event_is_read_back_as_it_was_published(log: EventLog) -> None:
    [published] = log.publish(USER_EVENTS, [event(1, key="영희", body=b'{"a":1}')])
    [record] = take(log, "worker", 1)
    assert record.position == published.position
    assert (record.event_id, record.key, record.body) == ("id-1", "영희", b'{"a":1}')
    assert record.published_at > 1_700_000_000_000_000
    assert not published.is_duplicate


def test_events_of_one_key_share_a_partition_in_order(log: EventLog) -> None:
    published = log.publish(USER_EVENTS, [event(number, key="7") for number in range(20)])
    assert len({done.position.partition for done in published}) == 1
    assert [done.position.offset for done in published] == list(range(20))


def test_partitions_are_the_same_on_every_machine() -> None:
    assert [partition_of(key, 3) for key in ("1", "2", "3", "영희")] == [2, 1, 1, 0]


@EMBEDDED
def test_the_same_event_again_is_a_duplicate_and_another_one_a_conflict(log: EventLog) -> None:
    [first] = log.publish(USER_EVENTS, [event(1)])
    [second] = log.publish(USER_EVENTS, [event(1)])
    assert second.is_duplicate
    assert second.position == first.position
    with pytest.raises(EventConflictError, match="id-1"):
        log.publish(USER_EVENTS, [event(2), event(1, key="other")])
    assert sum(map(len, everything(log).values())) == 1  # all or none


@KAFKA
def test_the_same_event_again_is_told_to_its_readers(log: EventLog) -> None:
    first, again = event(1, key="7"), event(1, key="7")
    other = event(1, key="7", body=b'{"other":1}')
    for each in (first, again, other, event(2, key="7")):
        log.publish(USER_EVENTS, [each])
    expected = [Standing.FIRST, Standing.DUPLICATE, Standing.CONFLICT, Standing.FIRST]
    taken = take(log, "worker", 4)
    assert [record.standing for record in taken] == expected
    place = Place(USER_EVENTS, partition_of("7", 3))
    log.seek("worker", {place: 1})  # wherever reading begins, the answer is the same
    assert take(log, "worker", 3) == taken[1:]
    assert log.read(place, 2, 10) == taken[2:]


def test_of_two_events_with_one_id_in_a_call_nothing_is_stored(log: EventLog) -> None:
    with pytest.raises(EventConflictError, match="id-1"):
        log.publish(USER_EVENTS, [event(2), event(1), event(1, body=b'{"other":1}')])
    assert sum(map(len, everything(log).values())) == 0


@EMBEDDED
def test_a_fingerprint_decides_what_is_the_same(log: EventLog) -> None:
    def stamped(body: bytes) -> NewEvent:
        return NewEvent("id", "1", "user_interaction.v1", body, fingerprint=b"same")

    log.publish(USER_EVENTS, [stamped(b'{"at":1}')])
    [again] = log.publish(USER_EVENTS, [stamped(b'{"at":2}')])
    assert again.is_duplicate


def test_an_id_twice_in_one_call_is_stored_once(log: EventLog) -> None:
    first, second = log.publish(USER_EVENTS, [event(1), event(1)])
    assert not first.is_duplicate
    assert second.is_duplicate
    assert second.position == first.position


def test_a_group_continues_after_its_commit(url: str, tmp_path: Path, log: EventLog) -> None:
    log.publish(USER_EVENTS, [event(number) for number in range(30)])
    first = take(log, "worker", 10, limit=10)[:10]
    log.commit("worker", next_positions(first))
    take(log, "worker", 10, limit=10)  # not committed: it comes again
    log.close()
    again = open_event_log(url, tmp_path, BOUND)
    rest = take(again, "worker", 20)
    assert len(rest) == 20
    assert not {record.event_id for record in rest} & {record.event_id for record in first}
    assert again.lag("worker", [USER_EVENTS]) == {USER_EVENTS: 20}
    assert len(take(again, "other", 30)) == 30
    again.close()


def test_a_group_can_be_set_back(log: EventLog) -> None:
    log.publish(USER_EVENTS, [event(number, key="1") for number in range(5)])
    assert len(take(log, "api-0", 5)) == 5
    place = Place(USER_EVENTS, partition_of("1", 3))
    log.seek("api-0", {place: 2})
    assert [record.position.offset for record in take(log, "api-0", 3)] == [2, 3, 4]


def test_a_group_that_is_set_first_reads_alone(url: str, tmp_path: Path, log: EventLog) -> None:
    log.publish(USER_EVENTS, [event(number) for number in range(9)])
    everywhere = dict.fromkeys(log.end_positions([USER_EVENTS]), 0)
    other = open_event_log(url, tmp_path, BOUND)
    for replica in (log, other):  # of one name, as on two machines
        replica.seek("api-0", everywhere)
        assert len(take(replica, "api-0", 9)) == 9
        replica.commit("api-0", replica.end_positions([USER_EVENTS]))
    assert other.lag("api-0", [USER_EVENTS]) == {USER_EVENTS: 0}
    other.close()


def test_partitions_that_were_not_set_go_on_after_the_commit(log: EventLog) -> None:
    published = log.publish(USER_EVENTS, [event(number) for number in range(30)])
    ends = log.end_positions([USER_EVENTS])
    one, two, three = ends
    log.commit("api-0", {two: ends[two] - 1, three: ends[three]})
    log.seek("api-0", {one: ends[one] - 2})
    taken = [record.position for record in take(log, "api-0", 3)]
    late = {done.position for done in published} & {
        Position(*one, ends[one] - 2), Position(*one, ends[one] - 1), Position(*two, ends[two] - 1)
    }  # fmt: skip
    assert set(taken) == late
    assert len(taken) == 3


def test_a_waiting_poll_wakes_on_the_first_event(log: EventLog) -> None:
    timer = threading.Timer(0.1, lambda: log.publish(USER_EVENTS, [event(1)]))
    timer.start()
    assert len(log.poll("worker", [USER_EVENTS], 10, wait_seconds=20.0)) == 1
    timer.join()


def test_ends_and_committed_offsets_name_every_partition(log: EventLog) -> None:
    assert log.end_positions([USER_EVENTS]) == {Place(USER_EVENTS, part): 0 for part in range(3)}
    [done] = log.publish(USER_EVENTS, [event(1)])
    place = Place(USER_EVENTS, done.position.partition)
    assert log.end_positions([USER_EVENTS])[place] == 1
    log.commit("g", {place: 1})
    assert log.committed("g", [USER_EVENTS])[place] == 1


def test_an_unknown_topic_is_refused(log: EventLog) -> None:
    with pytest.raises(UnknownEventError, match="no topic"):
        log.publish("nothing", [event(1)])


def test_text_that_is_no_unicode_hurts_nobody_else(log: EventLog) -> None:
    with pytest.raises(UnicodeEncodeError):
        log.publish(USER_EVENTS, [event(1, key="\ud800")])
    assert log.publish(USER_EVENTS, [event(2)])


@EMBEDDED
def test_a_full_log_refuses_and_keeps_what_it_has(url: str, tmp_path: Path) -> None:
    small = open_event_log(url, tmp_path, 1_000_000)
    accepted = 0

    def fill() -> None:
        nonlocal accepted
        for number in range(200):
            small.publish(USER_EVENTS, [event(number, body=b"x" * 20_000)])
            accepted += 1

    with pytest.raises(LogFullError):
        fill()
    assert 10 < accepted < 60
    assert sum(map(len, everything(small).values())) == accepted
    small.ping()
    small.close()


def test_a_closed_log_says_so(log: EventLog) -> None:
    log.close()
    log.close()
    with pytest.raises(EngineUnavailableError):
        log.publish(USER_EVENTS, [event(1)])
    with pytest.raises(EngineUnavailableError):
        log.ping()


def test_cancelled_futures_stop_nothing(log: EventLog) -> None:
    futures = [log.publish_future(USER_EVENTS, [event(number)]) for number in range(50)]
    cancelled = sum(future.cancel() for future in futures)
    kept = [future for future in futures if not future.cancelled()]
    assert all(future.result(5) for future in kept)
    assert sum(map(len, everything(log).values())) == 50 - cancelled


@KAFKA
def test_many_threads_and_two_producers_lose_nothing(url: str, tmp_path: Path) -> None:
    logs = [open_event_log(url, tmp_path, BOUND) for _ in range(2)]

    def publish(thread: int) -> None:
        for number in range(40):
            # every id comes from two threads: it counts once
            logs[thread % 2].publish(USER_EVENTS, [event((thread // 2) * 1000 + number)])

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = take(logs[0], "worker", 8 * 40)
    firsts = {record.event_id for record in taken if record.standing is Standing.FIRST}
    standings = [record.standing for record in taken]
    assert standings.count(Standing.FIRST) == standings.count(Standing.DUPLICATE) == 4 * 40
    assert len(firsts) == 4 * 40
    for opened in logs:
        opened.close()


@EMBEDDED
def test_many_threads_and_two_writers_lose_nothing(url: str, tmp_path: Path) -> None:
    logs = [open_event_log(url, tmp_path, BOUND) for _ in range(2)]

    def publish(thread: int) -> None:
        for number in range(40):
            # every id comes from two threads: it counts once
            logs[thread % 2].publish(USER_EVENTS, [event((thread // 2) * 1000 + number)])

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = everything(logs[0])
    ids = [event_id for ids in stored.values() for event_id in ids]
    assert len(ids) == len(set(ids)) == 4 * 40
    for place, ids_there in stored.items():
        assert logs[1].end_positions([USER_EVENTS])[place] == len(ids_there)
    for opened in logs:
        opened.close()


@EMBEDDED
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc")), max_size=6), max_size=12
    )
)
def test_offsets_are_dense_and_every_id_stands_once(
    url: str, tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[int, str]]]
) -> None:
    log = open_event_log(url, tmp_path_factory.mktemp("log"), BOUND)
    first: dict[int, str] = {}
    for batch in batches:
        proposed = dict(first)
        clash = any(proposed.setdefault(number, key) != key for number, key in batch)
        events = [event(number, key=key) for number, key in batch]
        if clash:
            with pytest.raises(EventConflictError):
                log.publish(USER_EVENTS, events)
            continue
        first = proposed
        assert len(log.publish(USER_EVENTS, events)) == len(events)
    for part in range(TOPICS[USER_EVENTS]):
        records = log.read(Place(USER_EVENTS, part), 0, 1000)
        assert [record.position.offset for record in records] == list(range(len(records)))
        assert all(partition_of(record.key, 3) == part for record in records)
    stored = [event_id for ids in everything(log).values() for event_id in ids]
    assert sorted(stored) == sorted(f"id-{number}" for number in first)
    log.close()


_CHILD = """
import sys
from pathlib import Path
from movie_mlops.events import open_event_log
from movie_mlops.events.base import NewEvent
log = open_event_log(sys.argv[1], Path(sys.argv[2]), 50_000_000)
for number in range(100_000):
    [done] = log.publish("user-events", [NewEvent(f"id-{number}", str(number), "t.v1", b"{}")])
    print(done.position, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _CHILD, url, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        acknowledged = [child.stdout.readline().strip() for _ in range(200)]
        os.kill(child.pid, signal.SIGKILL)
        acknowledged += child.stdout.read().split("\n")[:-1]
    log = open_event_log(url, tmp_path, BOUND)
    for number, text in enumerate(acknowledged):
        topic, partition, offset = parse_position(text)
        [record] = log.read(Place(topic, partition), offset, 1)
        assert record.event_id == f"id-{number}"
    stored = sum(map(len, everything(log).values()))
    assert len(acknowledged) <= stored <= len(acknowledged) + 1
    for number, text in enumerate(acknowledged[:20] if url.startswith("sqlite") else []):
        [again] = log.publish(USER_EVENTS, [NewEvent(f"id-{number}", str(number), "t.v1", b"{}")])
        assert again == (parse_position(text), True)
    log.close()


def test_reading_begins_at_what_there_is_and_ends_at_the_end(log: EventLog) -> None:
    log.publish(USER_EVENTS, [event(number, key="1") for number in range(5)])
    place = Place(USER_EVENTS, partition_of("1", 3))
    assert [record.position.offset for record in log.read(place, 1, 2)] == [1, 2]
    assert [record.position.offset for record in log.read(place, 3, 10)] == [3, 4]
    assert log.read(place, 5, 10) == log.read(place, 500, 10) == []


@KAFKA
def test_an_event_that_is_too_large_is_no_outage(log: EventLog) -> None:
    with pytest.raises(EventError, match="bytes") as caught:
        log.publish(USER_EVENTS, [event(1), event(2, body=b"x" * 1_100_000)])
    assert not isinstance(caught.value, EngineUnavailableError)
    assert sum(map(len, everything(log).values())) == 0
    body = b'"' + b"x" * 900_000 + b'"'
    log.publish(USER_EVENTS, [event(2, body=body)])
    assert take(log, "worker", 1)[0].body == body


@KAFKA
def test_homes_that_share_a_cluster_do_not_meet(url: str, tmp_path: Path, log: EventLog) -> None:
    log.publish(USER_EVENTS, [event(1)])
    neighbour = open_event_log(f"{url}b.", tmp_path, BOUND)
    assert sum(neighbour.end_positions([USER_EVENTS]).values()) == 0
    neighbour.publish(USER_EVENTS, [event(2)])
    assert [record.event_id for record in take(neighbour, "worker", 1)] == ["id-2"]
    neighbour.close()


@pytest.mark.parametrize("text", ["", "user-events", "user-events:x:1", "a:1:-1", "A:1:1"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(EventError):
        parse_position(text)


def test_positions_are_written_as_they_are_read() -> None:
    assert str(parse_position("user-events:2:123")) == "user-events:2:123"


def test_an_unknown_scheme_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="MOVIE_MLOPS_EVENTS_URL"):
        open_event_log("rabbit://x", tmp_path, BOUND)


def test_a_file_that_is_no_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_bytes(b"not a database" * 100)
    with pytest.raises(EngineUnavailableError, match=r"events\.db"):
        open_event_log("sqlite:events.db", tmp_path, BOUND)


@pytest.mark.parametrize("text", ["kafka:", "kafka://", "kafka://host", "kafka://a:1,b"])
def test_a_broker_without_port_names_the_setting(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="MOVIE_MLOPS_EVENTS_URL"):
        open_event_log(text, tmp_path, BOUND)


def test_a_missing_client_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    for name in [name for name in sys.modules if name.startswith("movie_mlops.events.kafka")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigurationError, match=r"pip install 'movie-mlops\[kafka\]'"):
        open_event_log("kafka://localhost:9092", tmp_path, BOUND)


def test_what_is_trimmed_is_gone_and_the_rest_stays_where_it_was(log: EventLog) -> None:
    log.publish(USER_EVENTS, [event(number, key="7") for number in range(10)])
    place = Place(USER_EVENTS, partition_of("7", 3))
    log.trim({place: 6})
    log.trim({place: 6})
    kept = log.read(place, 0, 100)
    assert [record.position.offset for record in kept] == [6, 7, 8, 9]
    assert log.end_positions([USER_EVENTS])[place] == 10
    [done] = log.publish(USER_EVENTS, [event(10, key="7")])
    assert done.position.offset == 10
    assert [record.event_id for record in take(log, "worker", 5)] == [
        f"id-{number}" for number in range(6, 11)
    ]
