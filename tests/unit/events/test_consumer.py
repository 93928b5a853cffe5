"""The consumer loop on the real embedded log."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from movie_mlops.domain.errors import (
    EngineUnavailableError,
    EventError,
    LogFullError,
    UnknownEventError,
)
from movie_mlops.domain.interactions import InteractionType
from movie_mlops.events import EventLog, open_event_log
from movie_mlops.events.base import NewEvent, Record, Standing
from movie_mlops.events.consumer import Consumer, ConsumerOptions
from movie_mlops.events.schemas import (
    DEAD_LETTERS,
    USER_EVENTS,
    DeadLetter,
    UserInteractionEvent,
    decode,
    encode,
    to_interaction,
    topic_of,
)

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    opened = open_event_log("sqlite:events.db", tmp_path, 10_000_000)
    yield opened
    opened.close()


def like(user: str, movie: int) -> UserInteractionEvent:
    return UserInteractionEvent(user, movie, InteractionType.LIKE, NOON)


def publish(log: EventLog, *events: UserInteractionEvent) -> None:
    log.publish(USER_EVENTS, [encode(event) for event in events])


def letters(log: EventLog) -> list[DeadLetter]:
    return [decode(record) for record in log.poll("reader", [DEAD_LETTERS], 100)]


def test_an_event_goes_there_and_back(log: EventLog) -> None:
    event = UserInteractionEvent("영희", 7, InteractionType.RATING, NOON, 4.5, "s", None)
    publish(log, event)
    [record] = log.poll("worker", [USER_EVENTS], 1)
    assert decode(record) == event
    assert record.key == "영희"
    assert topic_of(event) == USER_EVENTS
    assert to_interaction(event, record.event_id).rating == 4.5


def test_poison_goes_to_the_dead_letters_once_and_the_rest_is_handled(log: EventLog) -> None:
    seen: list[int] = []

    def handle(event: UserInteractionEvent, record: Record) -> None:
        if event.movie_id == 13:
            raise ValueError("no thirteenth row")
        seen.append(event.movie_id)

    publish(log, *(like("1", movie) for movie in (12, 13, 14)))
    for _ in range(2):  # the second consumer is what comes after kill -9 before the commit
        group = Consumer(log, "worker", (USER_EVENTS,), {UserInteractionEvent: handle})
        group._options = ConsumerOptions(commit_seconds=1e9)
        group.run_once()
        log.seek("worker", dict.fromkeys(log.committed("worker", [USER_EVENTS]), 0))
    assert seen == [12, 14, 12, 14]
    [letter] = letters(log)
    assert "no thirteenth row" in letter.reason
    assert '"movie_id":13' in letter.body
    assert letter.group == "worker"


def test_unknown_types_and_bodies_are_dead_letters(log: EventLog) -> None:
    later = NewEvent("a", "1", "user_interaction.v9", b"{}")
    broken = NewEvent("b", "1", "user_interaction.v1", b'{"user_id": 3}')
    log.publish(USER_EVENTS, [later, broken])
    Consumer(log, "worker", (USER_EVENTS,), {}).run_once()
    assert ["v9" in letter.reason for letter in letters(log)] == [True, False]
    with pytest.raises(UnknownEventError):
        decode(log.poll("other", [USER_EVENTS], 1)[0])


def test_replicas_do_not_repeat_dead_letters(log: EventLog) -> None:
    log.publish(USER_EVENTS, [NewEvent("a", "1", "nonsense.v1", b"{}")])
    options = ConsumerOptions(keeps_dead_letters=False)
    assert Consumer(log, "api-0", (USER_EVENTS,), {}, options).run_once() == 1
    assert letters(log) == []


def test_an_unavailable_engine_is_waited_for(log: EventLog) -> None:
    tries: list[int] = []

    def handle(event: UserInteractionEvent, record: Record) -> None:
        tries.append(event.movie_id)
        if len(tries) < 3:
            raise EngineUnavailableError("store is down", retry_after_seconds=0.01)

    publish(log, like("1", 5), like("1", 6))
    Consumer(log, "worker", (USER_EVENTS,), {UserInteractionEvent: handle}).run_once()
    assert tries == [5, 5, 5, 6]
    assert log.lag("worker", [USER_EVENTS]) == {USER_EVENTS: 0}
    assert letters(log) == []


def test_a_stop_while_waiting_commits_only_what_was_handled(log: EventLog) -> None:
    waiting = threading.Event()

    def handle(event: UserInteractionEvent, record: Record) -> None:
        if event.movie_id == 6:
            waiting.set()
            raise EngineUnavailableError("down", retry_after_seconds=30)

    publish(log, like("1", 5), like("1", 6), like("1", 7))
    consumer = Consumer(log, "worker", (USER_EVENTS,), {UserInteractionEvent: handle})
    thread = threading.Thread(target=consumer.run)
    thread.start()
    assert waiting.wait(5)
    consumer.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert log.lag("worker", [USER_EVENTS]) == {USER_EVENTS: 2}


def test_a_commit_that_fails_is_made_up_for(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[int] = []
    consumer = Consumer(
        log,
        "worker",
        (USER_EVENTS,),
        {UserInteractionEvent: lambda event, record: handled.append(event.movie_id)},
    )
    publish(log, like("1", 5))

    def refuse(group: str, positions: object) -> None:
        raise LogFullError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(log, "commit", refuse)
        with pytest.raises(LogFullError):
            consumer.run_once()
    consumer.run_once()
    assert handled == [5]
    assert log.lag("worker", [USER_EVENTS]) == {USER_EVENTS: 0}


def test_a_group_that_ends_while_the_log_is_down_ends_all_the_same(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 26: its events come again to whoever goes on."""
    handled: list[int] = []
    options = ConsumerOptions(commit_seconds=1e9)
    handlers = {UserInteractionEvent: lambda event, record: handled.append(event.movie_id)}
    consumer = Consumer(log, "worker", (USER_EVENTS,), handlers, options)
    publish(log, like("1", 5))
    consumer.run_once()

    def refuse(group: str, positions: object) -> None:
        raise EngineUnavailableError("no broker")

    monkeypatch.setattr(log, "commit", refuse)
    consumer.stop()
    consumer.run()
    assert handled == [5]
    assert log.lag("worker", [USER_EVENTS]) == {USER_EVENTS: 1}


def test_a_repeat_is_counted_and_another_event_under_its_id_is_buried(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 14, whatever engine says so."""
    handled: list[int] = []
    publish(log, like("1", 5), like("1", 6), like("1", 7))
    records = log.poll("worker", [USER_EVENTS], 10)
    standings = (Standing.FIRST, Standing.DUPLICATE, Standing.CONFLICT)
    told = [replace(record, standing=each) for record, each in zip(records, standings, strict=True)]
    monkeypatch.setattr(log, "poll", lambda *arguments: told)
    handlers = {UserInteractionEvent: lambda event, record: handled.append(event.movie_id)}
    Consumer(log, "worker", (USER_EVENTS,), handlers).run_once()
    monkeypatch.undo()
    assert handled == [5]
    [letter] = letters(log)
    assert letter.position == str(records[2].position)
    assert "used before" in letter.reason


def test_a_letter_that_is_too_large_is_written_without_its_body(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 18 and 19: the group must go on."""
    log.publish(USER_EVENTS, [NewEvent("a", "1", "nonsense.v1", b"x" * 5_000)])
    publish_as_before = log.publish

    def refuse_large(topic: str, events: list[NewEvent]) -> object:
        if any(len(event.body) > 1_000 for event in events):
            raise EventError("too large")
        return publish_as_before(topic, events)

    monkeypatch.setattr(log, "publish", refuse_large)
    Consumer(log, "worker", (USER_EVENTS,), {}).run_once()
    [letter] = letters(log)
    assert letter.body == ""
    assert "stays where it is" in letter.reason
