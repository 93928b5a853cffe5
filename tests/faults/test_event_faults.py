"""Faults 15, 20-22 and 28: events out of order, in bursts, of odd clocks, one key, a newer writer.

The embedded log and its readers; what a broker adds is in `test_kafka_faults`.
"""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from tests.houses import furnish, running

from movie_mlops.automation.handlers import GROUP, LakeWriter
from movie_mlops.data.lake import Lake
from movie_mlops.domain.interactions import InteractionType
from movie_mlops.events import EventLog, open_event_log, schemas
from movie_mlops.events.base import NewEvent, Place, Record
from movie_mlops.events.consumer import Consumer, ConsumerOptions
from movie_mlops.events.redelivery import replay_dead_letters
from movie_mlops.events.schemas import (
    DEAD_LETTERS,
    TOPICS,
    USER_EVENTS,
    DeadLetter,
    UserInteractionEvent,
    decode,
    encode,
    to_interaction,
)
from movie_mlops.features.engineering.interaction_features import all_interactions
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.online_popularity import FEWEST_VIEWERS, OnlinePopularity
from movie_mlops.models.training.histories import build_histories
from movie_mlops.settings import Settings

EVENTS, LISTS = "/api/v1/events/user-interaction", "/api/v1/recommendations"
NOW = datetime.now(UTC).replace(microsecond=0)
FILMS = np.arange(1, 41)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    opened = open_event_log("sqlite:events.db", tmp_path, 500_000_000)
    yield opened
    opened.close()


def act(
    user: str, film: int, at: datetime, kind: InteractionType = InteractionType.WATCH
) -> UserInteractionEvent:
    return UserInteractionEvent(user, film, kind, at)


def consumed(log: EventLog, length: int = 50) -> Histories:
    """What a process that reads the log from its beginning knows."""
    histories = Histories(length)

    def apply(event: UserInteractionEvent, record: Record) -> None:
        histories.apply(to_interaction(event, record.event_id), record.position)

    options = ConsumerOptions(keeps_dead_letters=False)
    consumer = Consumer(log, "api-0", (USER_EVENTS,), {UserInteractionEvent: apply}, options)
    while consumer.run_once():
        pass
    return histories


def written(log: EventLog, home: Path) -> Lake:
    """The lake after the worker has read the log."""
    lake = Lake(home / "data")
    writer = LakeWriter(log, lake)
    while writer.run_once():
        pass
    return lake


def stored(log: EventLog) -> Counter[str]:
    """How often each event id lies in the log."""
    found: Counter[str] = Counter()
    for partition in range(TOPICS[USER_EVENTS]):
        place, start = Place(USER_EVENTS, partition), 0
        while records := log.read(place, start, 5_000):
            found.update(record.event_id for record in records)
            start = records[-1].position.offset + 1
    return found


@pytest.mark.parametrize("seed", range(4))
def test_events_hours_late_give_the_same_lists_and_the_same_training(
    tmp_path: Path, seed: int
) -> None:
    """Fault 15: what counts is when it happened; an undo may come before what it takes back."""
    events = []
    for user in range(6):
        for step in range(12):
            at = NOW - timedelta(hours=30 - step, minutes=user)
            film = 1 + (5 * user + 7 * step) % 40
            events.append(encode(act(str(user), film, at), f"{user}-{step}"))
        undo = UserInteractionEvent(
            str(user), 0, InteractionType.UNDO, NOW, target_event_id=f"{user}-3"
        )
        events.append(encode(undo, f"{user}-undo"))
    order = np.random.default_rng(seed).permutation(len(events))
    shuffled = [events[place] for place in order]
    outcomes = []
    for name, published in (("as-it-was", events), ("shuffled", shuffled)):
        log = open_event_log("sqlite:events.db", tmp_path / name, 50_000_000)
        log.publish(USER_EVENTS, published)
        histories = consumed(log)
        trained = build_histories(all_interactions(written(log, tmp_path / name)), FILMS)
        log.close()
        films = {str(user): histories.of(str(user)).films.tolist() for user in range(6)}
        assert all(len(each) == 11 for each in films.values())
        outcomes.append((films, trained.user_ids, trained.indptr.tolist(), trained.items.tolist()))
    assert outcomes[0] == outcomes[1]


async def burst(
    url: str, clients: int, each: int, names: str
) -> list[tuple[str, int, dict[str, str]]]:
    """All clients at once, a connection each: (event id, status, headers) of every answer."""
    host = urlsplit(url).netloc
    port = int(host.rpartition(":")[2])
    found: list[tuple[str, int, dict[str, str]]] = []

    async def send(client: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(each):
            name = f"{names}-{client}-{number}"
            event = {
                "user_id": f"b{client}",
                "movie_id": 1 + number,
                "interaction_type": "click",
                "event_id": name,
            }
            body = json.dumps(event)
            head = f"POST {EVENTS} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            headers = dict(line.split(": ", 1) for line in answer[1:] if line)
            await reader.readexactly(int(headers["content-length"]))
            found.append((name, int(answer[0].split()[1]), headers))
        writer.close()

    await asyncio.gather(*(send(client) for client in range(clients)))
    return found


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_burst_is_shed_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Fault 20: a hundred times the clients; 503 with Retry-After, memory stays bounded."""
    usual, times, each = 3, 100, 4
    settings = Settings(home=tmp_path, writes_burst=10**6, max_in_flight=2 * usual)
    furnish(settings)
    with running(settings) as url:
        calm = asyncio.run(burst(url, usual, 20, "calm"))
        assert {status for _, status, _ in calm} == {202}
        before, peak, over = resident(), [0], threading.Event()

        def watch() -> None:
            while not over.wait(0.01):
                peak[0] = max(peak[0], resident())

        watching = threading.Thread(target=watch)
        watching.start()
        rough = asyncio.run(burst(url, times * usual, each, "rough"))
        over.set()
        watching.join()
        assert peak[0] - before < 100_000_000
        statuses = Counter(status for _, status, _ in rough)
        assert set(statuses) == {202, 503}, statuses
        assert all("retry-after" in headers for _, status, headers in rough if status == 503)
        refused = [name for name, status, _ in rough if status == 503]
        # whoever comes again, as he was told, is heard
        with httpx.Client(base_url=url) as api:
            for name in refused[:20]:
                _, client, number = name.split("-")
                event = {
                    "user_id": f"b{client}", "movie_id": 1 + int(number),
                    "interaction_type": "click", "event_id": name,
                }  # fmt: skip
                assert api.post(EVENTS, json=event).json()["status"] == "accepted"
            assert api.get(LISTS, params={"user_id": "1"}).status_code == 200
    accepted = [name for name, status, _ in calm + rough if status == 202] + refused[:20]
    log = open_event_log(settings.events_url, settings.home, settings.event_log_max_bytes)
    try:
        assert stored(log) == Counter(accepted)
    finally:
        log.close()


def test_a_burst_of_writers_to_the_log_itself_is_stored_once_each(log: EventLog) -> None:
    """Fault 20: whatever waits for the disk shares its commits."""
    futures = [
        log.publish_future(USER_EVENTS, [encode(act(f"u{number}", 1, NOW), f"e{number}")])
        for number in range(20_000)
    ]
    assert all(not future.result(60)[0].is_duplicate for future in futures)
    assert stored(log) == Counter(f"e{number}" for number in range(20_000))


def test_clocks_a_day_off_move_nobody_else_and_lose_nothing(tmp_path: Path) -> None:
    """Fault 21: a day ahead and a day behind are taken, more is refused; order is per user."""
    settings = Settings(home=tmp_path, writes_burst=10**6)
    furnish(settings)
    almost = timedelta(hours=23, minutes=59)
    with running(settings) as url, httpx.Client(base_url=url) as api:

        def send(user: str, film: int, skew: timedelta) -> int:
            event = {
                "user_id": user, "movie_id": film, "interaction_type": "watch",
                "timestamp": (datetime.now(UTC) + skew).isoformat(),
            }  # fmt: skip
            return api.post(EVENTS, json=event).status_code

        for film in (1, 3, 5, 7):
            for user, skew in (("right", timedelta()), ("ahead", almost), ("behind", -almost)):
                assert send(user, film, skew) == 202
        lists = {
            user: api.get(LISTS, params={"user_id": user, "k": 100}).json()["items"]
            for user in ("right", "ahead", "behind")
        }
        assert send("ahead", 9, timedelta(days=1, minutes=5)) == 422
        newcomers = api.get(LISTS, params={"user_id": "nobody"}).json()["items"]
    films = {user: [item["movie_id"] for item in items] for user, items in lists.items()}
    assert films["right"] == films["ahead"] == films["behind"]
    assert films["right"]
    assert not {1, 3, 5, 7} & set(films["right"])
    assert newcomers
    log = open_event_log(settings.events_url, settings.home, settings.event_log_max_bytes)
    acts = all_interactions(written(log, tmp_path / "read"))
    trained = build_histories(acts, FILMS)
    log.close()
    assert [trained.of(user).tolist() for user in range(trained.user_count)] == [[0, 2, 4, 6]] * 3


def test_acts_of_tomorrow_lift_nothing_today() -> None:
    """Fault 21: a crowd whose clocks are a day ahead is counted tomorrow, not twice."""
    histories = Histories(50)
    for person in range(5 * FEWEST_VIEWERS):
        event = act(f"p{person}", 30, NOW + timedelta(days=1))
        histories.apply(to_interaction(event, f"e{person}"))
    online = OnlinePopularity(histories)
    online.look()
    assert list(online.reorder(list(range(40)), FILMS, 20)) == list(range(20))
    tomorrow = int(NOW.timestamp()) // 86_400 + 1
    assert dict(histories.trends.on(tomorrow)) == {30: 5 * FEWEST_VIEWERS}


def test_a_hot_key_costs_per_event_what_any_key_costs(log: EventLog, tmp_path: Path) -> None:
    """Fault 22: one user's events, 10^6 scaled by 1/40; time per event and memory do not grow."""
    parts, in_part, length = 5, 5_000, 50
    histories, lake = Histories(length), Lake(tmp_path / "data")
    spent: list[float] = []

    def apply(event: UserInteractionEvent, record: Record) -> None:
        histories.apply(to_interaction(event, record.event_id), record.position)
        histories.advance(record.position)

    options = ConsumerOptions(keeps_dead_letters=False)
    consumer = Consumer(log, "api-0", (USER_EVENTS,), {UserInteractionEvent: apply}, options)
    writer = LakeWriter(log, lake)
    for part in range(parts):
        start = time.process_time()
        numbers = range(part * in_part, (part + 1) * in_part)
        events = [
            encode(act("hot", 1 + number % 40, NOW + timedelta(seconds=number)), f"e{number}")
            for number in numbers
        ]
        for first in range(0, in_part, 500):
            log.publish(USER_EVENTS, events[first : first + 500])
        while consumer.run_once():
            pass
        while writer.run_once():
            pass
        histories.of("hot")
        spent.append(time.process_time() - start)
        # single acts that an undo may name, and one row per film of the catalogue
        assert len(histories.to_arrays()[0]["movies"]) <= 4 * length + len(FILMS)
    assert min(spent[-2:]) < 2 * max(spent[:2]), spent
    assert len(histories.of("hot").films) == len(FILMS)
    assert log.lag(GROUP, [USER_EVENTS]) == {USER_EVENTS: 0}
    assert len(lake.events(USER_EVENTS)) == parts * in_part
    assert len(build_histories(all_interactions(lake), FILMS).items) == len(FILMS)


def test_the_hot_keys_partition_starves_no_other(log: EventLog) -> None:
    """Fault 22: a poll takes from the partition that is furthest behind first."""
    hot = [encode(act("hot", 1, NOW), f"h{number}") for number in range(20_000)]
    for start in range(0, len(hot), 500):
        log.publish(USER_EVENTS, hot[start : start + 500])
    others = [encode(act(f"u{number}", 2, NOW), f"o{number}") for number in range(300)]
    log.publish(USER_EVENTS, others)
    seen: set[str] = set()
    for _ in range(8):  # 4,000 of 20,300
        records = log.poll("worker", [USER_EVENTS], 500)
        seen |= {record.event_id for record in records}
    elsewhere = {
        event.event_id
        for event, done in zip(others, log.publish(USER_EVENTS, others), strict=True)
        if done.position.partition != log.publish(USER_EVENTS, hot[:1])[0].position.partition
    }
    assert elsewhere <= seen


def newer(number: int, kind: str = "user_interaction.v1", **more: object) -> NewEvent:
    """An event as a later release writes it."""
    body = {
        "user_id": "7",
        "movie_id": number,
        "interaction_type": "watch",
        "timestamp": (NOW + timedelta(minutes=number)).isoformat(),
        **more,
    }
    return NewEvent(f"n{number}", "7", kind, json.dumps(body).encode())


def test_after_a_roll_back_the_older_release_loses_nothing(log: EventLog, tmp_path: Path) -> None:
    """Fault 28: unknown fields are passed over, an unknown type is kept as a letter, whole."""
    log.publish(
        USER_EVENTS,
        [
            newer(1),
            newer(2, device="television", watched={"seconds": 61, "of": [1, 2]}),
            newer(3, "user_interaction.v2", movie_ids=[3]),
            newer(4),
        ],
    )
    lake = written(log, tmp_path)
    assert sorted(lake.events(USER_EVENTS)["event_id"].to_list()) == ["n1", "n2", "n4"]
    assert consumed(log).of("7").films.tolist() == [1, 2, 4]
    assert log.lag(GROUP, [USER_EVENTS]) == {USER_EVENTS: 0}
    [record] = log.read(Place(DEAD_LETTERS, 0), 0, 10)
    letter = decode(record)
    assert isinstance(letter, DeadLetter)
    assert "user_interaction.v2" in letter.reason
    assert (letter.event_id, letter.key, letter.group) == ("n3", "7", GROUP)
    assert letter.body.encode() == newer(3, movie_ids=[3]).body
    assert stored(log) == Counter(["n1", "n2", "n3", "n4"])
    written(log, tmp_path)  # a worker that starts again writes the letter once
    assert len(log.read(Place(DEAD_LETTERS, 0), 0, 10)) == 1


def test_after_the_upgrade_the_letter_is_put_back(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 28: what the older release could not read counts once the newer one is back."""
    log.publish(USER_EVENTS, [newer(1), newer(3, "user_interaction.v2"), newer(4)])
    lake = written(log, tmp_path)
    assert len(lake.events(USER_EVENTS)) == 2
    [known] = [kind for kind in schemas.EVENT_TYPES if kind.struct is UserInteractionEvent]
    again = known._replace(name="user_interaction.v2")
    monkeypatch.setitem(schemas._BY_NAME, "user_interaction.v2", again)
    assert replay_dead_letters(log).letters == 1
    assert replay_dead_letters(log).letters == 0
    lake = written(log, tmp_path)
    assert sorted(lake.events(USER_EVENTS)["event_id"].to_list()) == ["n1", "n3", "n4"]
    assert build_histories(all_interactions(lake), FILMS).items.tolist() == [0, 2, 3]
    assert len(log.read(Place(DEAD_LETTERS, 0), 0, 10)) == 1
