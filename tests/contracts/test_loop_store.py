"""The contract of what the loop remembers, on every engine: once per cause, in order, shared."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from movie_mlops.automation import loop_store
from movie_mlops.automation.loop_store import (
    LoopStore,
    Retraining,
    RolloutState,
    open_loop_store,
)
from movie_mlops.events.schemas import LoopTransition
from movie_mlops.state import State

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
Opens = Callable[[], LoopStore]


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.engine("postgresql"))]
)
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Opens:
    """Opens the store as another process would: in a folder, or in a new database."""
    if request.param == "sqlite":
        return lambda: open_loop_store(tmp_path / "var")
    server: State = request.getfixturevalue("postgres").database()
    return lambda: open_loop_store(server)


@pytest.fixture
def store(opens: Opens) -> LoopStore:
    return opens()


def move(after: str = "shadow", cause: str = "c", at: datetime = NOW) -> LoopTransition:
    return LoopTransition("m", "2", "challenger", after, "a reason: 100 % ' \\", "loop", cause, at)


def test_transitions_are_noted_once_in_order_and_told(store: LoopStore, opens: Opens) -> None:
    assert store.note(move(), "e1")
    assert not store.note(move("other"), "e1")
    assert store.note(move("canary", cause="d"))
    other = opens()
    noted = other.history()
    assert [each.event for each in noted] == [move("canary", cause="d"), move()]
    assert [each.event_id for each in other.history(cause="c")] == ["e1"]
    assert len(other.history(1)) == 1
    assert [each.event for each in store.unpublished()] == [move(), move("canary", cause="d")]
    other.mark_published(store.unpublished()[:1])
    assert [each.event.after for each in store.unpublished()] == ["canary"]


def test_the_audit_trail_is_bounded_and_loses_nothing_untold(
    store: LoopStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_store, "KEPT_TRANSITIONS", 5)
    for number in range(8):
        store.note(move(str(number)))
    assert len(store.history()) == 8
    store.mark_published(store.unpublished())
    store.note(move("8"))
    assert [each.event.after for each in store.history()] == ["8", "7", "6", "5", "4"]


def test_one_training_per_cause_whoever_asks(store: LoopStore, opens: Opens) -> None:
    """Fault 65."""
    each = Retraining("c", "m", 0.1 + 0.2, NOW, "run", "running")
    stores = [opens() for _ in range(4)]
    with ThreadPoolExecutor(4) as workers:
        added = list(workers.map(lambda one: one.add_retraining(each), stores))
    assert sorted(added) == [False, False, False, True]
    store.add_retraining(Retraining("d", "n", 1.0, NOW + timedelta(1), "run2", "running"))
    store.end_retraining("c", "failed")
    found = store.retrainings()
    assert [one.cause for one in found] == ["d", "c"]
    assert store.retrainings("m") == [Retraining("c", "m", 0.1 + 0.2, NOW, "run", "failed")]


def test_roll_outs_and_stops(store: LoopStore, opens: Opens) -> None:
    first = RolloutState("m", "2", "1", "shadow", NOW, "c")
    second = RolloutState("m", "2", "1", "canary", NOW + timedelta(hours=1), "c")
    store.put_rollout(first)
    store.put_rollout(second)
    assert opens().rollouts() == [second]
    store.drop_rollout("m")
    assert store.rollouts() == []
    assert store.stop("m", "why", NOW)
    assert not store.stop("m", "again", NOW)
    assert opens().stopped() == {"m": "why"}
    assert store.resume("m")
    assert not store.resume("m")
    assert store.stopped() == {}


def test_several_processes_write_at_once(opens: Opens) -> None:
    def work(name: str) -> None:
        store = opens()
        for number in range(25):
            store.note(move(name), f"{name}-{number}")
            store.note(move("all"), f"all-{number}")

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(work, "abcd"))
    noted = opens().history(1_000)
    assert len(noted) == 125
    assert len({each.number for each in noted}) == 125
