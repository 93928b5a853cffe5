"""The house with its tables in an object store: every step, a lost home, a store that is away."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.object_store import serving
from tests.up_house import House, environment

from movie_mlops.settings import PREFIX


def ran(home: Path, more: dict[str, str], *arguments: str) -> str:
    """What the command line printed."""
    command = [sys.executable, "-m", "movie_mlops", *arguments, "--home", str(home)]
    done = subprocess.run(
        command, env=environment(**more), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def state_of(home: Path) -> dict[str, bytes]:
    tables = home / "data" / "processed"
    return {path.name: path.read_bytes() for path in tables.glob("*.parquet")}


@pytest.mark.engine("s3")
@pytest.mark.timeout(600)
def test_tables_in_a_store_outlive_their_home(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        more = {PREFIX + "LAKE_URL": server.url}
        house = House(tmp_path / "home", more=more)
        house.home.mkdir()
        house.start()
        try:
            house.wait_for(lambda: "· ready ·" in house.output)
            act: dict[str, Any] = {"user_id": "1", "movie_id": 2, "interaction_type": "watch"}
            assert house.post("/api/v1/events/user-interaction", act).status_code == 202
            events = server.lake / "processed" / "events"
            house.wait_for(lambda: any(events.glob("*.parquet")))
            server.kill()
            assert house.path_of("1") == "personal", "no answer waits for the store"
            assert house.get("/api/v1/movies/2").status_code == 200
            assert house.post("/api/v1/events/user-interaction", act).status_code == 202
            server.start()
        finally:
            house.kill()
        there = {path.name for path in server.lake.iterdir()}
        assert there == {"raw", "processed", "quarantine", "features", "predictions"} & there
        assert {"raw", "processed", "features"} <= there
        before = state_of(house.home)
        assert before.keys() >= {"movies.parquet", "interactions.parquet", "people.parquet"}
        listed = json.loads(ran(house.home, more, "snapshot", "list", "--json"))
        assert listed

        shutil.rmtree(house.home)
        again = House(tmp_path / "again", more=more)
        again.home.mkdir()
        again.start()
        try:
            again.wait_for(lambda: "· ready ·" in again.output)
            assert "is as s3://films/lake" in again.output
            assert "data_collection" not in again.output, "the films were in the store"
            assert again.path_of("1") == "personal"
        finally:
            again.kill()
        assert state_of(again.home) == before
