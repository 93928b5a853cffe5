"""Outcomes from the event log: one process joins, another goes on, each user counts once."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from movie_mlops.domain.experiments import Arm, Experiment
from movie_mlops.domain.interactions import InteractionType
from movie_mlops.domain.requests import new_request_id
from movie_mlops.events import EventLog, open_event_log
from movie_mlops.events.schemas import USER_EVENTS, UserInteractionEvent, encode
from movie_mlops.models.serving import outcomes
from movie_mlops.models.serving.exposure_engines import open_exposure_store
from movie_mlops.models.serving.exposures import ExposureLog, Shown
from movie_mlops.models.serving.outcomes import OutcomeJoiner

TEST = Experiment("t", (Arm("a"), Arm("b")))


class Replica:
    """One process: its own store, log and joiner over the files of the home."""

    def __init__(self, home: Path) -> None:
        self.log: EventLog = open_event_log("sqlite:events.db", home, 10_000_000)
        self.store = open_exposure_store(home, "replica")
        self.exposures = ExposureLog(self.store, TEST)
        self.joiner = OutcomeJoiner(TEST, self.log, self.store, self.exposures)

    def show(self, user: str, arm: str = "a") -> str:
        request_id = new_request_id()
        shown = Shown("list", user, "personal", "m", "1", "s", experiment="t", arm=arm)
        self.exposures.note(request_id, shown)
        self.exposures.flush()
        return request_id

    def tell(self, user: str, request_id: str | None, kind: str = "click", **more: float) -> None:
        now = datetime.now(UTC)
        event = UserInteractionEvent(
            user, 1, InteractionType(kind), now, request_id=request_id, **more
        )
        self.log.publish(USER_EVENTS, [encode(event)])

    def converted(self) -> int:
        return int(self.store.rows("SELECT sum(converted) FROM subjects")[0][0] or 0)

    def close(self) -> None:
        self.joiner.stop()
        self.store.close()
        self.log.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(outcomes, "_LOOK_SECONDS", 1_000.0)  # the tests join by hand


def test_one_replica_joins_and_another_goes_on_after_it(tmp_path: Path) -> None:
    one, two = Replica(tmp_path), Replica(tmp_path)
    one.joiner.start()
    two.joiner.start()
    ids = {user: one.show(user) for user in ("1", "2", "3")}
    one.joiner.join()
    two.tell("1", ids["1"])
    time.sleep(0.002)
    two.joiner.join()  # does not lead
    assert one.converted() == 0
    one.joiner.join()
    assert one.converted() == 1
    two.tell("2", ids["2"])
    two.tell("1", ids["1"])
    one.close()
    time.sleep(0.002)
    two.joiner.join()
    assert two.converted() == 2
    again = Replica(tmp_path)
    two.close()
    again.joiner.start()
    time.sleep(0.002)
    again.joiner.join()
    assert again.converted() == 2
    again.close()


def test_what_is_an_outcome(tmp_path: Path) -> None:
    replica = Replica(tmp_path)
    replica.joiner.start()
    acts: list[tuple[str, dict[str, float], bool]] = [
        ("click", {}, True), ("like", {}, True), ("watch", {}, True), ("view", {}, False),
        ("dislike", {}, False), ("rating", {"rating": 4.0}, True),
        ("rating", {"rating": 2.0}, False),
    ]  # fmt: skip
    expected = 0
    for number, (kind, more, counts) in enumerate(acts):
        request_id = replica.show(str(number))
        replica.tell(str(number), request_id, kind, **more)
        expected += counts
    other = replica.show("x")
    replica.tell("x", None)
    replica.tell("x", "unknown")
    replica.tell("y", other)
    time.sleep(0.002)
    replica.joiner.join()
    assert replica.converted() == expected
    replica.close()


def test_events_that_have_not_settled_wait_and_the_clock_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = Replica(tmp_path)
    replica.joiner.start()
    replica.tell("1", replica.show("1"))
    monkeypatch.setattr(outcomes, "_SETTLE_SECONDS", 30.0)
    replica.joiner.join()
    assert replica.converted() == 0
    [(joined,)] = replica.store.rows("SELECT joined_ms FROM experiments")
    assert joined < 1000 * (time.time() - 29)
    monkeypatch.setattr(outcomes, "_SETTLE_SECONDS", 0.0)
    replica.joiner.join()
    assert replica.converted() == 1
    replica.close()


def test_a_backlog_holds_the_clock_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "_BATCH", 5)
    replica = Replica(tmp_path)
    replica.joiner.start()
    users = [str(number) for number in range(12)]
    for user in users:
        replica.tell(user, replica.show(user))
    time.sleep(0.002)
    for _ in range(2):
        replica.joiner.join()
        assert replica.store.rows("SELECT joined_ms FROM experiments") == [(0,)]
    replica.joiner.join()
    assert replica.converted() == 12
    [(joined,)] = replica.store.rows("SELECT joined_ms FROM experiments")
    assert joined > 0
    replica.close()
