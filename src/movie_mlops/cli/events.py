"""`events`: what is in the log, as it comes, who is behind, and dead letters put back."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from movie_mlops.domain.errors import UnknownEventError

if TYPE_CHECKING:
    from movie_mlops.bootstrap import Services
    from movie_mlops.events import EventLog
    from movie_mlops.events.base import Place, Record

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_TOPICS = click.argument("topics", nargs=-1, metavar="[TOPIC]...")
_LOOK_SECONDS = 0.2
_BATCH = 500


@click.group()
def events() -> None:
    """The event log: show, tail, lag, replay dead letters."""


@contextmanager
def _opened(home: Path | None) -> Iterator["Services"]:
    from movie_mlops.bootstrap import build_services
    from movie_mlops.settings import load_settings

    services = build_services(load_settings(home))
    try:
        yield services
    finally:
        services.close()


@events.command()
@_HOME
@_JSON
def show(home: Path | None, as_json: bool) -> None:
    """Every topic: partitions, events so far, the latest one; then the latest dead letters."""
    from rich.console import Console
    from rich.table import Table

    from movie_mlops.events.schemas import DEAD_LETTERS, TOPICS

    with _opened(home) as services:
        log, url = services.log, services.settings.events_url
        ends = log.end_positions(list(TOPICS))
        latest = {
            topic: [
                record
                for place, end in ends.items()
                if place.topic == topic and end
                for record in log.read(place, end - 1, 1)
            ]
            for topic in TOPICS
        }
        letters = [
            record
            for place, end in ends.items()
            if place.topic == DEAD_LETTERS
            for record in log.read(place, max(0, end - 5), 5)
        ]
    counts = {
        topic: sum(end for place, end in ends.items() if place.topic == topic) for topic in TOPICS
    }
    if as_json:
        click.echo(json.dumps({"url": url, "events": counts}))
        return
    table = Table("topic", "partitions", "events", "latest", title=url, title_justify="left")
    for topic, partitions in TOPICS.items():
        newest = max(latest[topic], key=lambda record: record.published_at, default=None)
        said = f"{newest.type}, {_time(newest.published_at)}" if newest is not None else ""
        table.add_row(topic, str(partitions), f"{counts[topic]:,}", said)
    console = Console()
    console.print(table)
    for record in letters:
        letter = json.loads(record.body)
        console.print(
            f"[red]dead letter[/] {letter['position']} ({letter['group']}): {letter['reason']}"
        )
    if letters:
        console.print("`movie-mlops events replay` puts them back")


@events.command()
@_TOPICS
@_HOME
@click.option("--from-start", is_flag=True, help="Everything that is kept, not only what is new.")
@click.option("--last", default=10, show_default=True, help="Begin with the latest so many.")
@click.option("--follow/--no-follow", "-f", default=False, help="Go on until Ctrl-C.")
def tail(
    topics: tuple[str, ...], home: Path | None, from_start: bool, last: int, follow: bool
) -> None:
    """Events as CloudEvents, one line of JSON each, in the order of time; all topics or these.

    `movie-mlops events tail user-events -f | jq .data` shows what viewers do while they do it.
    """
    from movie_mlops.events.schemas import TOPICS

    if unknown := sorted(set(topics) - set(TOPICS)):
        message = f"no topic {unknown[0][:80]!r}; there are {', '.join(TOPICS)}"
        raise UnknownEventError(message)
    with _opened(home) as services:
        log = services.log
        ends = log.end_positions(list(topics or TOPICS))
        reached = {place: 0 if from_start else max(0, end - last) for place, end in ends.items()}
        shown = list(_next(log, reached))
        _print(shown if from_start else shown[-last:])
        while from_start and shown:
            shown = list(_next(log, reached))
            _print(shown)
        while follow:
            shown = list(_next(log, reached))
            _print(shown)
            if not shown:
                time.sleep(_LOOK_SECONDS)


def _next(log: "EventLog", reached: "dict[Place, int]") -> "list[Record]":
    """A batch of every partition from where it is `reached`, in the order of time."""
    found: list[Record] = []
    for place, offset in reached.items():
        records = log.read(place, offset, _BATCH)
        found += records
        if records:
            reached[place] = records[-1].position.offset + 1
    return sorted(found, key=lambda record: record.published_at)


def _print(records: "list[Record]") -> None:
    from movie_mlops.events.cloud_events import to_cloud_event

    for record in records:
        fields = (record.event_id, record.key, record.type, record.body)
        click.echo(to_cloud_event(*fields, record.published_at))


@events.command()
@_HOME
@_JSON
def lag(home: Path | None, as_json: bool) -> None:
    """How many events each consumer group has not handled yet."""
    from rich.console import Console
    from rich.table import Table

    from movie_mlops.automation.handlers import GROUP as WORKER
    from movie_mlops.automation.loop import GROUP as AUTOMATION
    from movie_mlops.events.schemas import DRIFT_ALERTS, SYSTEM_HEALTH, USER_EVENTS

    with _opened(home) as services:
        slots = sorted((services.settings.home / "var" / "slots").glob("*.lock"))
        groups = {WORKER: [USER_EVENTS], AUTOMATION: [DRIFT_ALERTS, SYSTEM_HEALTH]}
        groups |= {f"api-{slot.stem}": [USER_EVENTS] for slot in slots}
        behind = {group: services.log.lag(group, names) for group, names in groups.items()}
    if as_json:
        click.echo(json.dumps(behind))
        return
    table = Table("group", "topic", "behind", "bar")
    most = max((count for of in behind.values() for count in of.values()), default=0) or 1
    for group, of in behind.items():
        for topic, count in of.items():
            table.add_row(group, topic, f"{count:,}", "█" * round(20 * count / most))
    Console().print(table)


@events.command()
@_HOME
@click.option("--group", help="Only letters of this consumer group.")
def replay(home: Path | None, group: str | None) -> None:
    """Put dead letters back: each goes once more to the group that could not handle it.

    Mend what was wrong first. What fails again becomes a dead letter again.
    """
    from movie_mlops.events.redelivery import replay_dead_letters

    with _opened(home) as services:
        done = replay_dead_letters(services.log, group, services.erased)
    click.echo(f"{done.letters} put back")
    for text in done.left:
        click.secho(f"left: {text}", fg="yellow")


def _time(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
