"""Tables in an object store that is killed, frozen, away, or loses its writer."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from tests.object_store import S3Server, serving

from movie_mlops.automation.handlers import GROUP, LakeWriter
from movie_mlops.data.lake import Lake
from movie_mlops.data.object_store import ObjectStore
from movie_mlops.data.tables import INTERACTIONS
from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.domain.interactions import InteractionType
from movie_mlops.events import open_event_log
from movie_mlops.events.schemas import USER_EVENTS, UserInteractionEvent, encode

WRITER = """
import sys
from pathlib import Path
from tests.faults.test_object_store_faults import opened, put
print("started", flush=True)
put(opened(sys.argv[1], Path(sys.argv[2])), 400_000)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    with serving(tmp_path) as started:
        yield started


def opened(url: str, root: Path) -> Lake:
    return Lake(root, store=ObjectStore(url, root))


def put(lake: Lake, count: int) -> None:
    acts = pl.DataFrame({"line": range(count)}).select(
        user_id=(pl.col("line") % 97).cast(pl.String),
        movie_id=(pl.col("line") + 1).cast(pl.String),
        interaction_type=pl.lit("watch"),
        timestamp=(1_700_000_000 + pl.col("line")).cast(pl.String),
        line=pl.col("line").cast(pl.String),
    )
    with lake.connect() as connection:
        connection.register("raw_interactions", acts.to_arrow())
        lake.replace(INTERACTIONS, connection, source="test")


def put_until_it_fails(lake: Lake, acknowledged: int) -> int:
    """How many rows the last table has that was acknowledged; each has one more."""
    for count in range(acknowledged + 1, acknowledged + 2_000):
        try:
            put(lake, count)
        except EngineUnavailableError:
            return count - 1
    pytest.fail("the store was not killed")


def rows(lake: Lake) -> int:
    return len(lake.read("interactions"))


def test_a_store_that_is_away_leaves_the_last_good_table(server: S3Server, tmp_path: Path) -> None:
    mine = opened(server.url, tmp_path / "mine")
    put(mine, 10)
    server.kill()
    with pytest.raises(EngineUnavailableError, match=r"s3://films/lake"):
        put(mine, 20)
    with pytest.raises(EngineUnavailableError):
        mine.read("interactions")  # perhaps somebody wrote another: no old table for the new one
    assert len(Lake(mine.root).read("interactions")) == 10, "who reads the copy goes on"
    server.start()
    assert rows(mine) == rows(opened(server.url, tmp_path / "yours")) == 10
    put(mine, 20)
    assert rows(opened(server.url, tmp_path / "others")) == 20


@pytest.mark.engine("s3")
def test_what_was_acknowledged_outlives_the_kill_of_the_store(
    server: S3Server, tmp_path: Path
) -> None:
    mine, acknowledged = opened(server.url, tmp_path / "mine"), 1
    put(mine, acknowledged)
    for count in range(1, 7):
        killer = threading.Timer(0.05 * count, server.kill)
        killer.start()
        acknowledged = put_until_it_fails(mine, acknowledged)
        killer.join()
        server.start()
        found = rows(opened(server.url, tmp_path / f"yours-{count}"))
        # the write that was not answered may have come through, as anywhere
        assert found in (acknowledged, acknowledged + 1)
        assert rows(mine) == found
        acknowledged = found


@pytest.mark.engine("s3")
def test_a_writer_that_is_killed_leaves_the_old_table_and_no_lock(
    server: S3Server, tmp_path: Path
) -> None:
    mine = opened(server.url, tmp_path / "mine")
    put(mine, 10)
    environment = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WRITER, server.url, str(mine.root)]
    for patience in (0.5, 1.0):
        with server.frozen():
            child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
            assert child.stdout is not None
            assert child.stdout.readline() == b"started\n"
            time.sleep(patience)
            child.send_signal(signal.SIGKILL)
            child.wait()
            child.stdout.close()
        yours = opened(server.url, tmp_path / f"yours-{patience}")
        assert rows(yours) in (10, 400_000)  # the store may have got all of it
        put(mine, 10)
        assert rows(yours) == rows(mine) == 10


def test_events_wait_for_the_store_and_none_is_lost(server: S3Server, tmp_path: Path) -> None:
    log = open_event_log("sqlite:events.db", tmp_path, 50_000_000)
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    lake = opened(server.url, tmp_path / "mine")
    writer = LakeWriter(log, lake)
    try:
        for part in range(4):
            acts = [
                UserInteractionEvent(str(n % 7), 1 + n, InteractionType.WATCH, noon + timedelta(n))
                for n in range(50 * part, 50 * part + 50)
            ]
            log.publish(USER_EVENTS, [encode(act, f"e{act.movie_id}") for act in acts])
            if part % 2:
                server.kill()
                with pytest.raises(EngineUnavailableError):
                    writer.run_once()
                assert log.lag(GROUP, [USER_EVENTS])[USER_EVENTS] >= 50, "not committed"
                server.start()
            while writer.run_once():
                pass
        assert log.lag(GROUP, [USER_EVENTS]) == {USER_EVENTS: 0}
        shutil.rmtree(lake.root)
        kept = opened(server.url, tmp_path / "yours").events(USER_EVENTS)
        assert sorted(kept["event_id"]) == sorted(f"e{number + 1}" for number in range(200))
    finally:
        log.close()


@pytest.mark.engine("s3")
def test_a_silent_store_is_waited_for_a_bounded_time(server: S3Server, tmp_path: Path) -> None:
    mine = opened(server.url, tmp_path / "mine")
    put(mine, 10)
    with server.frozen():
        start = time.monotonic()
        with pytest.raises(EngineUnavailableError):
            mine.read("interactions")
        assert time.monotonic() - start < 60
    assert rows(mine) == 10
