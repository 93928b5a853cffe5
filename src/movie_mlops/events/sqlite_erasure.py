"""Erasing from SQLite files: events become tombstones, deleted bytes are written over."""

import fcntl
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.events.schemas import DEAD_LETTERS, Erased, encode

_BUSY_SECONDS = 30.0
_TOMBSTONE = (
    "UPDATE events SET event_id = ?, key = '', type = ?, body = ?, identity = x''"
    " WHERE topic = ? AND partition = ? AND offset = ?"
)


def erase_events(path: Path, user_id: str, ends: Mapping[str, int], at: datetime) -> dict[str, int]:
    """Empty the viewer's events before `ends` (`topic:partition` to offset); topic to how many.

    Each becomes an event `erased.v1`, so every offset stays where it is. Dead letters of the
    viewer's events go too. Again: finds what is left.

    Raises:
        EngineUnavailableError: the file does not answer.
    """
    if not path.exists():
        return {}
    with _opened(path) as connection:
        # what is in the log never changes, so the long look needs no lock
        found = [
            place
            for place in _events_of(connection, user_id)
            if place[2] < ends.get(f"{place[0]}:{place[1]}", 0)
        ]
        stone = encode(Erased(at))
        rows = [
            (f"erased:{place[1]}:{place[2]}", stone.type, stone.body, *place) for place in found
        ]
        with _turn(path):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_TOMBSTONE, rows)
            connection.execute("COMMIT")
    counts: dict[str, int] = {}
    for topic, _, _ in found:
        counts[topic] = counts.get(topic, 0) + 1
    return counts


def shred(path: Path) -> None:
    """Write a database anew without what was deleted from it, and empty its write-ahead log.

    What SQLite overwrites on deletion may have left copies where pages were split; a new file has
    none. Writers wait meanwhile.

    Raises:
        EngineUnavailableError: somebody reads on and on, or there is no room for a second copy.
    """
    if not path.exists():
        return
    with _opened(path) as connection:
        with _turn(path):
            connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # the most of it, beside writers
        with _turn(path):
            _truncate(connection, path)


def _truncate(connection: sqlite3.Connection, path: Path) -> None:
    deadline = time.monotonic() + _BUSY_SECONDS
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > deadline:
            message = f"{path} is being read all the time; run it again"
            raise EngineUnavailableError(message)
        time.sleep(0.05)


def _events_of(connection: sqlite3.Connection, user_id: str) -> Iterator[tuple[str, int, int]]:
    query = "SELECT topic, partition, offset FROM events WHERE key = ?"
    yield from connection.execute(query, (user_id,)).fetchall()
    letters = "SELECT partition, offset, body FROM events WHERE topic = ? AND type = ?"
    for partition, offset, body in connection.execute(letters, (DEAD_LETTERS, "dead_letter.v1")):
        if json.loads(body).get("key") == user_id:
            yield DEAD_LETTERS, partition, offset


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(
            sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        ) as connection:
            for setting in ("synchronous = FULL", "secure_delete = ON"):
                connection.execute(f"PRAGMA {setting}")
            yield connection
    except (sqlite3.Error, OSError) as error:
        message = f"{path} cannot be written now, nothing is lost by trying again: {error}"
        raise EngineUnavailableError(message) from error


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """The event log's writers wait here, where waiting has no limit."""
    turn = path.with_suffix(".turn")
    if not turn.exists():
        yield
        return
    with turn.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
