"""The way of one process into the log: everybody is told once, and batches follow the disk."""

import asyncio
import contextlib
import fcntl
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from movie_mlops.api.routers.events import Publisher
from movie_mlops.domain.errors import EngineUnavailableError, EventConflictError
from movie_mlops.events.base import NewEvent, Place, Published
from movie_mlops.events.schemas import TOPICS, USER_EVENTS
from movie_mlops.events.sqlite import SqliteEventLog

Told = list[Published | BaseException]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteEventLog]:
    made = SqliteEventLog(tmp_path / "events.db", TOPICS, 1_000_000_000)
    yield made
    made.close()


def event(name: str, body: bytes = b"{}") -> NewEvent:
    return NewEvent(name, "1", "user_interaction.v1", body)


async def until(count: int, told: Told) -> None:
    async with asyncio.timeout(20):
        while len(told) < count:  # noqa: ASYNC110 (a list has no event)
            await asyncio.sleep(0.001)


async def answers(publisher: Publisher, events: list[NewEvent]) -> list[Any]:
    """What each is told; a second telling would be an entry more."""
    told: list[Told] = [[] for _ in events]
    for each, own in zip(events, told, strict=True):
        publisher.publish(each, own.append)
        assert own == []  # never from within
    for own in told:
        await until(1, own)
    await asyncio.sleep(0.01)
    assert [len(own) for own in told] == [1] * len(events)
    return [own[0] for own in told]


def test_everybody_hears_where_his_event_stands(log: SqliteEventLog) -> None:
    found = asyncio.run(answers(Publisher(log, 10), [event(f"e{n}") for n in range(70)]))
    stored = log.read(Place(USER_EVENTS, found[0].position.partition), 0, 100)
    assert [each.position for each in stored] == sorted(each.position for each in found)
    assert [each.event_id for each in stored] == [f"e{n}" for n in range(70)]


def test_one_conflict_is_nobody_elses(log: SqliteEventLog) -> None:
    events = [event("a"), event("b"), event("b", b"[]"), event("c"), event("b")]

    async def go() -> list[Any]:
        publisher = Publisher(log, 10)
        return await answers(publisher, events)

    first, second, conflict, third, again = asyncio.run(go())
    assert isinstance(conflict, EventConflictError)
    assert [each.is_duplicate for each in (first, second, third, again)] == [False] * 3 + [True]
    assert again.position == second.position


def test_a_listener_that_fails_takes_nobody_with_it(log: SqliteEventLog) -> None:
    async def go() -> Told:
        told: Told = []
        publisher = Publisher(log, 10)

        def fails(_: object) -> None:
            raise ValueError

        for number in range(3):
            publisher.publish(event(f"x{number}"), fails)
            publisher.publish(event(f"y{number}"), told.append)
        await until(3, told)
        return told

    assert all(isinstance(each, Published) for each in asyncio.run(go()))


def test_who_waits_too_long_is_told_so_once(log: SqliteEventLog, tmp_path: Path) -> None:
    async def go() -> list[Any]:
        publisher = Publisher(log, 0.05)
        with (tmp_path / "events.turn").open("a") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)  # the writer waits
            late = await answers(publisher, [event("late")])
        return [*late, *await answers(Publisher(log, 10), [event("late"), event("next")])]

    late, stored, following = asyncio.run(go())
    assert isinstance(late, TimeoutError)
    assert stored.is_duplicate
    assert not following.is_duplicate


class OnceOpen(SqliteEventLog):
    """A log that takes one batch and is closed when the next comes."""

    is_used = False

    def publish_future(self, topic: str, events: Sequence[NewEvent]) -> Future[list[Published]]:
        """As the log's own, the first time."""
        if self.is_used:
            self.close()
        self.is_used = True
        return super().publish_future(topic, events)


def test_who_comes_while_a_conflict_is_sorted_out_hears_of_the_closed_log(tmp_path: Path) -> None:
    log = OnceOpen(tmp_path / "events.db", TOPICS, 1_000_000_000)
    with contextlib.closing(log):
        events = [event("a"), event("a", b"[]"), event("b")]
        publisher = Publisher(log, 10)
        publisher._expected = 2  # the third waits for the batch of the two before

        found = asyncio.run(answers(publisher, events))
    assert [type(each) for each in found] == [EngineUnavailableError] * 3


def test_a_log_that_is_closed_is_heard_of(log: SqliteEventLog) -> None:
    log.close()

    async def go() -> tuple[float, list[Any]]:
        publisher = Publisher(log, 10)
        found = await answers(publisher, [event("a"), event("b")])
        return publisher.refused_at, found

    refused_at, found = asyncio.run(go())
    assert refused_at > 0
    assert all(isinstance(each, EngineUnavailableError) for each in found)


@pytest.mark.parametrize(("seconds", "expected"), [(1.0, 40), (0.0, 20)])
def test_the_next_batch_waits_for_all_only_while_the_disk_is_the_slower_one(
    log: SqliteEventLog, seconds: float, expected: int
) -> None:
    publisher = Publisher(log, 10)
    for _ in range(100):
        publisher._expect(40, seconds)
    assert publisher._expected == expected
