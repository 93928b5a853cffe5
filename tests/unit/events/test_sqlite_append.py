"""What the embedded log asks of SQLite must not grow with the log."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from movie_mlops.events.base import NewEvent
from movie_mlops.events.sqlite import SqliteEventLog
from movie_mlops.events.sqlite_append import Appender, PublishJob


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
    assert [row[3] for row in plan] == [
        "SEARCH events USING INDEX event_ids (topic=? AND event_id=?)"
    ]
