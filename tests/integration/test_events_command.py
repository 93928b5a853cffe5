"""`movie-mlops events` on a home with events, and what retention may forget."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from movie_mlops.automation.handlers import GROUP
from movie_mlops.bootstrap import Services, build_services
from movie_mlops.cli.main import cli
from movie_mlops.domain.interactions import InteractionType
from movie_mlops.events.base import NewEvent, Place
from movie_mlops.events.consumer import Consumer
from movie_mlops.events.redelivery import replay_dead_letters
from movie_mlops.events.schemas import DEAD_LETTERS, USER_EVENTS, UserInteractionEvent, encode
from movie_mlops.models.serving.follower import write_histories
from movie_mlops.models.serving.histories import Histories
from movie_mlops.settings import load_settings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    made = build_services(load_settings(tmp_path))
    yield made
    made.close()


@pytest.fixture
def call(tmp_path: Path) -> Callable[..., Result]:
    def calling(*words: str) -> Result:
        home = ["--home", str(tmp_path)]
        return CliRunner().invoke(cli, ["events", *words, *home], env={"COLUMNS": "200"})

    return calling


def like(user: str, film: int) -> NewEvent:
    event = UserInteractionEvent(user, film, InteractionType.LIKE, NOON)
    return encode(event, f"{user}-{film}")


def test_show_tail_and_lag(services: Services, call: Callable[..., Result]) -> None:
    services.log.publish(USER_EVENTS, [like("1", film) for film in range(1, 8)])
    services.log.publish(USER_EVENTS, [NewEvent("odd", "1", "user_interaction.v9", b"{}")])
    writer = services.lake_writer()
    writer.run_once()
    assert json.loads(call("show", "--json").output)["events"][USER_EVENTS] == 8
    assert "no schema of this version" in call("show").output
    lines = [json.loads(line) for line in call("tail", "--last", "3").output.splitlines()]
    assert [line["type"] for line in lines][-1] == "dead_letter.v1"
    everything = call("tail", USER_EVENTS, "--from-start").output.splitlines()
    first = json.loads(everything[0])
    assert len(everything) == 8
    assert (first["id"], first["subject"], first["data"]["movie_id"]) == ("1-1", "1", 1)
    assert json.loads(call("lag", "--json").output)[GROUP] == {USER_EVENTS: 0}
    services.log.publish(USER_EVENTS, [like("2", 1)])
    assert json.loads(call("lag", "--json").output)[GROUP] == {USER_EVENTS: 1}
    assert "worker" in call("lag").output
    assert "there are movie-recommendations" in str(call("tail", "gossip").exception)


def test_a_dead_letter_is_put_back_once_for_its_own_group(
    services: Services, call: Callable[..., Result]
) -> None:
    """Faults 19 and 28."""
    broken = True
    mine: list[int] = []
    others: list[int] = []

    def handle(event: UserInteractionEvent, record: Any) -> None:
        if broken and event.movie_id == 2:
            raise ValueError("the disk of this group is odd")
        mine.append(event.movie_id)

    log = services.log
    group = Consumer(log, "worker", (USER_EVENTS,), {UserInteractionEvent: handle})
    other = Consumer(
        log,
        "other",
        (USER_EVENTS,),
        {UserInteractionEvent: lambda event, _: others.append(event.movie_id)},
    )
    log.publish(USER_EVENTS, [like("1", film) for film in (1, 2, 3)])
    group.run_once()
    other.run_once()
    assert (mine, others) == ([1, 3], [1, 2, 3])
    assert call("replay").output == "1 put back\n"
    group.run_once()
    assert log.end_positions([DEAD_LETTERS])[Place(DEAD_LETTERS, 0)] == 2  # it failed again
    broken = False
    assert call("replay").output == "1 put back\n"
    assert call("replay").output == "0 put back\n"
    group.run_once()
    other.run_once()
    assert (mine, others) == ([1, 3, 2], [1, 2, 3])


def test_letters_of_another_group_or_without_a_body_stay(services: Services) -> None:
    def refuse(event: UserInteractionEvent, record: Any) -> None:
        raise ValueError("no")

    log = services.log
    log.publish(USER_EVENTS, [like("1", 1)])
    Consumer(log, "worker", (USER_EVENTS,), {UserInteractionEvent: refuse}).run_once()
    log.publish(DEAD_LETTERS, [NewEvent("x", "k", "dead_letter.v1", b"{}")])
    done = replay_dead_letters(log, "somebody")
    assert done.letters == 0
    assert len(done.left) == 1


def test_a_letter_that_is_put_back_counts_once_in_lake_and_histories(services: Services) -> None:
    from movie_mlops.events.redelivery import opened
    from movie_mlops.events.schemas import Redelivered, decode, to_interaction

    log = services.log
    new = like("1", 5)
    log.publish(USER_EVENTS, [new])
    again = Redelivered("user-events:0:0", GROUP, new.event_id, "1", new.type, new.body.decode())
    log.publish(USER_EVENTS, [encode(again, "again")])
    writer = services.lake_writer()
    while writer.run_once():
        pass
    assert len(services.lake.events(USER_EVENTS)) == 1
    histories = Histories(10)
    for place in log.end_positions([USER_EVENTS]):
        for record in log.read(place, 0, 10):
            event = decode(record)
            record = opened(event, record) if isinstance(event, Redelivered) else record
            histories.apply(to_interaction(decode(record), record.event_id), record.position)
    assert histories.of("1").films.tolist() == [5]


def test_retention_keeps_what_the_lake_or_a_new_replica_needs(services: Services) -> None:
    """Fault 27: retention shorter than lag."""
    log, later = services.log, datetime.now(UTC) + timedelta(days=91)
    log.publish(USER_EVENTS, [like("1", film) for film in range(1, 11)])
    [place] = [place for place, end in log.end_positions([USER_EVENTS]).items() if end]
    services.trim_log(later)
    assert len(log.read(place, 0, 100)) == 10  # not in the lake yet
    log.commit(GROUP, {place: 7})
    services.trim_log(later)
    assert len(log.read(place, 0, 100)) == 10  # a replica that starts would miss them
    histories = Histories(10)
    for record in log.read(place, 0, 4):
        histories.advance(record.position)
    write_histories(services.serving, histories, "1")
    services.trim_log(datetime.now(UTC))
    assert len(log.read(place, 0, 100)) == 10  # they are young
    services.trim_log(later)
    kept = log.read(place, 0, 100)
    assert [record.position.offset for record in kept] == list(range(4, 10))
    assert log.end_positions([USER_EVENTS])[place] == 10
    services.trim_log(later)  # again changes nothing
    assert len(log.read(place, 0, 100)) == 6
    assert log.publish(USER_EVENTS, [like("1", 11)])[0].position.offset == 10
