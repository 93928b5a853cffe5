"""Fault 77: killed between any two steps, then started again: the same state as without the kill.

Each test starts `kill_child.py`, which kills itself with SIGKILL at a named point, and then
does what comes after a restart. The roll-out and the loop are killed in
`tests/unit/automation/test_loop.py`, the Kafka broker in `test_kafka_faults.py`.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from tests.faults.kill_child import POISON, handler, like, open_log
from tests.faults.test_api_kill import child
from tests.houses import furnish

from movie_mlops.automation.handlers import LakeWriter
from movie_mlops.data.lake import Lake
from movie_mlops.events import EventLog, open_event_log
from movie_mlops.events.base import Place
from movie_mlops.events.consumer import Consumer
from movie_mlops.events.schemas import (
    DEAD_LETTERS,
    TOPICS,
    USER_EVENTS,
    UserInteractionEvent,
)
from movie_mlops.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def stored(log: EventLog, topic: str = USER_EVENTS) -> list[str]:
    places = [Place(topic, number) for number in range(TOPICS[topic])]
    return sorted(each.event_id for place in places for each in log.read(place, 0, 10_000))


def killed(role: str, point: str, home: Path) -> None:
    """Run the role until it kills itself at the point."""
    command = [sys.executable, "-m", "tests.faults.kill_child", role, point, str(home)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    ("point", "is_there"),
    [
        ("before the event is sent", False),
        ("written, not committed", False),
        ("committed, not answered", True),
        ("answered", True),
    ],
)
def test_a_producer_that_sends_again_has_its_event_stored_once(
    tmp_path: Path, point: str, is_there: bool
) -> None:
    killed("produce", point, tmp_path)
    log = open_log(tmp_path)
    assert stored(log) == (["id-0", "id-1"] if is_there else ["id-0"])
    [again] = log.publish(USER_EVENTS, [like(1)])
    assert again.is_duplicate is is_there
    assert stored(log) == ["id-0", "id-1"]
    log.close()


@pytest.mark.parametrize(
    ("point", "status"),
    [
        ("before publish", "accepted"),
        ("between publish and apply", "duplicate"),
        ("between apply and answer", "duplicate"),
    ],
)
def test_a_click_that_was_not_answered_counts_once_when_it_is_sent_again(
    tmp_path: Path, point: str, status: str
) -> None:
    furnish(Settings(home=tmp_path))
    command = [sys.executable, "-m", "tests.faults.kill_child", "serve", point]
    body = {"user_id": "new", "movie_id": 7, "interaction_type": "like", "event_id": "click"}
    with subprocess.Popen([*command, str(tmp_path)], cwd=ROOT) as process:
        while not (tmp_path / "ready").exists():
            assert process.poll() is None
            time.sleep(0.02)
        url = f"http://127.0.0.1:{(tmp_path / 'ready').read_text()}"
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{url}/api/v1/events/user-interaction", json=body, timeout=20)
        assert process.wait(20) == -signal.SIGKILL
    with child(tmp_path) as (_, api):
        answer = api.post("/api/v1/events/user-interaction", json=body)
        assert (answer.status_code, answer.json()["status"]) == (202, status)
        listed = api.get("/api/v1/recommendations", params={"user_id": "new", "k": 100}).json()
        assert listed["path"] == "personal"
        assert 7 not in {item["movie_id"] for item in listed["items"]}
    settings = Settings(home=tmp_path)
    log = open_event_log(settings.events_url, tmp_path, 50_000_000)
    assert stored(log) == ["click"]
    log.close()


@pytest.mark.parametrize(
    ("point", "comes_again"),
    [
        ("before an event is handled", True),
        ("handled, not committed", True),
        ("before its dead letter is written", True),
        ("dead letter written, not committed", True),
        ("all handled, not committed", True),
        ("committed", False),
    ],
)
def test_a_group_goes_on_after_its_last_commit_and_leaves_nothing_out(
    tmp_path: Path, point: str, comes_again: bool
) -> None:
    log = open_log(tmp_path)
    log.publish(USER_EVENTS, [like(number) for number in range(10)])
    killed("consume", point, tmp_path)
    consumer = Consumer(log, "group", (USER_EVENTS,), {UserInteractionEvent: handler(tmp_path)})
    assert consumer.run_once() == (10 if comes_again else 0)
    consumer.run_once()
    times = (tmp_path / "handled").read_text().split()
    assert set(times) == {f"id-{number}" for number in range(10)} - {POISON}
    assert max(map(times.count, times)) <= 2
    assert len(stored(log, DEAD_LETTERS)) == 1
    assert log.lag("group", [USER_EVENTS]) == {USER_EVENTS: 0}
    log.close()


@pytest.mark.parametrize(
    "point",
    [
        "taken, not written",
        "half of the file written",
        "file in place, older one there too",
        "one partition written",
        "files written, not committed",
        "committed",
    ],
)
def test_the_lake_has_every_event_once(tmp_path: Path, point: str) -> None:
    log, lake = open_log(tmp_path), Lake(tmp_path / "lake")
    log.publish(USER_EVENTS, [like(number) for number in range(60)])
    killed("write_lake", point, tmp_path)
    before = lake.events(USER_EVENTS)["event_id"].to_list()
    assert len(before) == len(set(before)) >= 20  # readers never see an event twice
    writer = LakeWriter(log, lake)
    while writer.run_once():
        pass
    whole = Lake(tmp_path / "whole")
    log.seek("worker", dict.fromkeys(log.end_positions([USER_EVENTS]), 0))
    LakeWriter(log, whole).run_once()
    found, wanted = lake.events(USER_EVENTS), whole.events(USER_EVENTS)
    assert found.equals(wanted)
    assert len(found) == 60
    assert lake.event_positions(USER_EVENTS) == whole.event_positions(USER_EVENTS)
    log.close()
