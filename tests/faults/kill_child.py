"""The process of `test_kill_points.py`: it kills itself with SIGKILL at a named point.

python -m tests.faults.kill_child ROLE POINT HOME
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from movie_mlops.automation import handlers
from movie_mlops.automation.handlers import LakeWriter
from movie_mlops.data.lake import Lake
from movie_mlops.domain.interactions import InteractionType
from movie_mlops.events import EventLog, open_event_log
from movie_mlops.events.base import NewEvent, Record
from movie_mlops.events.consumer import Consumer
from movie_mlops.events.schemas import USER_EVENTS, UserInteractionEvent, encode
from movie_mlops.events.sqlite_append import Appender

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
POISON = "id-4"


def open_log(home: Path) -> EventLog:
    return open_event_log("sqlite:events.db", home, 50_000_000)


def like(number: int) -> NewEvent:
    event = UserInteractionEvent(str(number % 7), 1 + number, InteractionType.LIKE, NOON)
    return encode(event, f"id-{number}")


def arm(owner: Any, name: str, made_first: bool, at_call: int = 1) -> None:
    """Let this process kill itself before or after that call of `owner.name`."""
    call: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def dying(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at_call and not made_first:
            os.kill(os.getpid(), signal.SIGKILL)
        found = call(*arguments, **more)
        if calls == at_call:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, dying)


def produce(point: str, home: Path) -> None:
    log = open_log(home)
    log.publish(USER_EVENTS, [like(0)])
    {
        "before the event is sent": lambda: arm(type(log), "publish_future", made_first=False),
        "written, not committed": lambda: arm(Appender, "append", made_first=True),
        "committed, not answered": lambda: arm(Future, "set_result", made_first=False),
        "answered": lambda: arm(type(log), "publish", made_first=True),
    }[point]()
    log.publish(USER_EVENTS, [like(1)])


def serve(point: str, home: Path) -> None:
    import uvicorn
    from tests.houses import api_services

    from movie_mlops.api.main import create_app
    from movie_mlops.models.serving.histories import Histories
    from movie_mlops.settings import Settings

    settings = Settings(home=home, writes_burst=10_000)
    services = api_services(settings)
    app = create_app(settings, lambda: services)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None)
    server = uvicorn.Server(config)
    {
        "before publish": lambda: arm(type(services.log), "publish_future", made_first=False),
        "between publish and apply": lambda: arm(Histories, "apply", made_first=False),
        "between apply and answer": lambda: arm(Histories, "apply", made_first=True),
    }[point]()

    async def main() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 (uvicorn has no event)
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        (home / "port").write_text(str(port))
        (home / "port").rename(home / "ready")
        await serving

    asyncio.run(main())


def consume(point: str, home: Path) -> None:
    log = open_log(home)
    consumer = Consumer(log, "group", (USER_EVENTS,), {UserInteractionEvent: handler(home)})
    {
        "before an event is handled": lambda: arm(Consumer, "_dispatch", False, 3),
        "handled, not committed": lambda: arm(Consumer, "_dispatch", True, 3),
        "before its dead letter is written": lambda: arm(type(log), "publish", False),
        "dead letter written, not committed": lambda: arm(type(log), "publish", True),
        "all handled, not committed": lambda: arm(type(log), "commit", False),
        "committed": lambda: arm(type(log), "commit", True),
    }[point]()
    consumer.run_once()


def handler(home: Path) -> Callable[[UserInteractionEvent, Record], None]:
    """Notes what it handles; one event it never can."""

    def note(event: UserInteractionEvent, record: Record) -> None:
        if record.event_id == POISON:
            raise ValueError("poison")
        with (home / "handled").open("a") as stream:
            print(record.event_id, file=stream)

    return note


def write_lake(point: str, home: Path) -> None:
    handlers.FLUSH_EVENTS = 20
    log, lake = open_log(home), Lake(home / "lake")
    writer = LakeWriter(log, lake)
    writer.run_once()  # the second batch meets files of the first
    {
        "taken, not written": lambda: arm(Lake, "append_events", False),
        "half of the file written": lambda: arm(pl.DataFrame, "write_parquet", True),
        "file in place, older one there too": lambda: arm(Path, "unlink", False),
        "one partition written": lambda: arm(Lake, "append_events", True),
        "files written, not committed": lambda: arm(type(log), "commit", False),
        "committed": lambda: arm(type(log), "commit", True),
    }[point]()
    writer.run_once()


ROLES = {"produce": produce, "serve": serve, "consume": consume, "write_lake": write_lake}

if __name__ == "__main__":
    ROLES[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
