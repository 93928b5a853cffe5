"""The guide's producer and consumer on a real log."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from movie_mlops import (
    ModelDriftEvent,
    MovieEventConsumer,
    MovieEventProducer,
    SystemHealthEvent,
    UserInteractionEvent,
)
from movie_mlops.domain.errors import EventError
from movie_mlops.events import EventLog, open_event_log
from movie_mlops.events.schemas import decode

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOVIE_MLOPS_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def producer(home: Path) -> Iterator[MovieEventProducer]:
    made = MovieEventProducer()
    yield made
    made.close()


def stored(home: Path) -> list[object]:
    log: EventLog = open_event_log("sqlite:var/events.db", home, 10_000_000)
    topics = ("user-events", "model-drift-alerts", "system-health")
    found = [decode(record) for topic in topics for record in log.poll("reader", (topic,), 100)]
    log.close()
    return found


def test_events_and_fields_are_sent_alike(producer: MovieEventProducer, home: Path) -> None:
    event = UserInteractionEvent("user_3", 42, "view", NOON, 4.0, "s1")
    producer.send_user_interaction(event, event_id="one")
    again = producer.send_user_interaction(
        user_id="user_003", movie_id="movie_42", interaction_type="view", timestamp=NOON,
        rating=4.0, session_id="s1", event_id="one",
    )  # fmt: skip
    assert again.is_duplicate
    drift = ModelDriftEvent("movie_recommender", "1", 0.85, 0.7, NOON, {"genre": 0.85})
    health = SystemHealthEvent("api", "overloaded", 95.0, 60.0, 12.5, NOON)
    producer.send_model_drift(drift)
    producer.send_system_health(health)
    sent = UserInteractionEvent("3", 42, "view", NOON, 4.0, "s1")
    assert stored(home) == [sent, drift, health]


@pytest.mark.parametrize(
    "fields",
    [
        {"user_id": "1", "movie_id": 2, "interaction_type": "view"},
        {"user_id": "1", "movie_id": 2, "interaction_type": "stare", "timestamp": NOON},
        {"user_id": "1", "movie_id": 2, "interaction_type": "view", "timestamp": "noon"},
        {"who": "1"},
    ],
)
def test_what_is_no_event_is_not_sent(
    producer: MovieEventProducer, home: Path, fields: dict[str, object]
) -> None:
    with pytest.raises(EventError, match="no UserInteractionEvent"):
        producer.send_user_interaction(**fields)
    assert stored(home) == []


def test_the_consumer_hands_events_to_handlers_and_goes_on_where_it_was(
    producer: MovieEventProducer, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for film in (1, 2):
        producer.send_user_interaction(
            user_id="1", movie_id=film, interaction_type="like", timestamp=NOON
        )
    taken: list[int] = []
    handlers = {UserInteractionEvent: lambda event, _: taken.append(event.movie_id)}
    for _ in range(2):
        consumer = MovieEventConsumer("readers", handlers=handlers)
        consumer.start_consuming(limit=2)
        consumer.close()
    assert taken == [1, 2]
    with caplog.at_level(logging.INFO):
        shown = MovieEventConsumer()
        assert shown.start_consuming(limit=2) == 2
        shown.close()
    assert "user-events:" in caplog.text
