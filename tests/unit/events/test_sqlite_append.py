"""What the embedded log asks of SQLite must not grow with the log."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movie_mlops.domain.errors import EventConflictError
from movie_mlops.events.base import NewEvent, Position, Published
from movie_mlops.events.schemas import new_event_id
from movie_mlops.events.sqlite import _SCHEMA, SqliteEventLog
from movie_mlops.events.sqlite_append import MOST_AT_ONCE, Appender, PublishJob, _size


@pytest.mark.parametrize("count", [1, 2, 16, 64, 512])
def test_ids_are_looked_up_in_their_index_however_many(tmp_path: Path, count: int) -> None:
    SqliteEventLog(tmp_path / "events.db", {"t": 1}, 1_000_000_000).close()
    asked: list[str] = []
    with closing(sqlite3.connect(tmp_path / "events.db", isolation_level=None)) as connection:
        connection.set_trace_callback(asked.append)
        job = PublishJob("t", [NewEvent(f"id-{n}", "key", "a.v1", b"{}") for n in range(count)])
        Appender(connection, {"t": 1}, 1_000_000_000).append([job])
        connection.set_trace_callback(None)
        [select] = [each for each in asked if "FROM events" in each]
        plan = connection.execute(f"EXPLAIN QUERY PLAN {select}").fetchall()
    steps = [row[3] for row in plan if "events" in row[3]]
    assert steps == ["SEARCH events USING INDEX event_ids (topic=? AND event_id=?)"]


@given(st.integers(1, MOST_AT_ONCE))
def test_a_statement_has_room_for_all_and_there_are_few_sizes(count: int) -> None:
    assert count <= _size(count) <= min(count * 5 // 4, MOST_AT_ONCE)
    assert len({_size(each) for each in range(1, MOST_AT_ONCE + 1)}) < 40


@settings(max_examples=20, deadline=None)
@given(counts=st.lists(st.integers(1, 1_300), min_size=1, max_size=4))
def test_every_event_is_stored_as_it_came(counts: list[int]) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(_SCHEMA)
        events = [
            [NewEvent(f'{job} "{n}" 괴', f"key{n % 5}", "a.v1", b"\x00{}") for n in range(count)]
            for job, count in enumerate(counts)
        ]
        jobs = [PublishJob("t", each) for each in events]
        found = Appender(connection, {"t": 3}, 1_000_000_000).append(jobs)
        again = Appender(connection, {"t": 3}, 1_000_000_000).append(jobs)
        rows = connection.execute("SELECT topic, partition, offset, event_id, body FROM events")
        stored = {event_id: (Position(*place), body) for *place, event_id, body in rows.fetchall()}
    assert sum(counts) == len(stored)
    for job, first, second in zip(events, found, again, strict=True):
        assert isinstance(first, list)
        assert isinstance(second, list)
        for event, published, repeated in zip(job, first, second, strict=True):
            assert stored[event.event_id] == (published.position, event.body)
            assert f"{published.position}" == ":".join(map(str, stored[event.event_id][0]))
            assert repeated == (published.position, True)


def test_a_job_that_fails_in_its_middle_leaves_no_gap() -> None:
    def job(topic: str, *names: str, body: bytes = b"{}") -> PublishJob:
        return PublishJob(topic, [NewEvent(name, "key", "a.v1", body) for name in names])

    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(_SCHEMA)
        jobs = [job("t", "a", "b"), job("u", "a"), job("t", "c", "a", body=b"[]"), job("t", "c")]
        first, other, conflict, last = Appender(connection, {"t": 1, "u": 2}, 10**9).append(jobs)
        query = "SELECT topic, next_offset FROM heads WHERE next_offset > 0"
        heads = dict(connection.execute(query).fetchall())
    assert first == [Published(Position("t", 0, n), is_duplicate=False) for n in range(2)]
    assert isinstance(other, list)
    assert other[0].position.offset == 0
    assert isinstance(conflict, EventConflictError)
    assert last == [Published(Position("t", 0, 2), is_duplicate=False)]
    assert heads == {"t": 3, "u": 1}


def test_a_new_id_is_its_microsecond_and_chance() -> None:
    before = time.time_ns() // 1000
    made = [new_event_id() for _ in range(1_000)]
    after = time.time_ns() // 1000
    assert {len(each) for each in made} == {32}
    assert all(before <= int(each[:14], 16) <= after for each in made)
    assert len({each[14:] for each in made}) == len(made)
