"""`movie-mlops up` as a user starts it: one process that supervises all others."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.up_house import House, environment, free_port

LIKES = "/api/v1/events/user-interaction"


def call_up(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `up` where it is expected to refuse."""
    command = [sys.executable, "-m", "movie_mlops", "up", *map(str, arguments)]
    return subprocess.run(
        command, env=environment(), cwd=cwd, capture_output=True, text=True, check=False, timeout=60
    )


@dataclass
class Start:
    """What was seen during the very first start."""

    house: House
    parts_at_first: dict[str, Any]
    had_champion_at_first: bool
    seconds_to_personal: float


@pytest.fixture(scope="module")
def first_start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    house = House(tmp_path_factory.mktemp("up"))
    house.start()
    try:
        house.wait_for(lambda: house.get("/health").status_code == 200)
        parts = house.get("/health").json()["parts"]
        had_champion = (house.home / "var/serving/manifest.json").exists()
        seconds = house.wait_for(lambda: house.path_of("1") == "personal")
        house.wait_for(lambda: "· ready ·" in house.output)
        yield Start(house, parts, had_champion, seconds)
    finally:
        house.kill()


@pytest.fixture
def house(first_start: Start) -> House:
    """The running house; started again when a test before left it down."""
    house = first_start.house
    if house.process is None or house.process.poll() is not None:
        house.start()
        house.wait_for(lambda: house.get("/health").status_code == 200)
    return house


def test_it_answers_while_the_first_model_is_trained(first_start: Start) -> None:
    assert not first_start.had_champion_at_first
    assert first_start.parts_at_first["recommender"]["state"] != "ok"
    parts = first_start.house.get("/health").json()["parts"]
    assert {name for name, part in parts.items() if part["state"] != "ok"} <= {"worker"}


def test_the_admin_key_lies_in_the_home_and_nowhere_else(house: House) -> None:
    path = house.home / ".env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = house.key["X-API-Key"]
    assert len(key) >= 32
    assert key not in house.output
    assert str(path) in house.output or "admin key" not in house.output
    for log in (house.home / "var").rglob("*.log"):
        assert key not in log.read_text(errors="replace")


def test_the_worker_answers_for_features_and_registry(house: House) -> None:
    house.wait_for(lambda: house.get("/mlflow/models").status_code == 200)
    film = house.get("/api/v1/features/movie/1")
    assert film.status_code == 200, film.text
    assert film.json()["features"]
    body = {"entity_ids": [1, 2, 3, 4, 5], "features": ["rating", "popularity", "genre"]}
    batch = house.post("/api/v1/features/batch", {**body, "entity_type": "movie"})
    assert batch.status_code == 200, batch.text
    results = batch.json()["results"]
    assert [row["entity_id"] for row in results] == [1, 2, 3, 4, 5]
    assert all(set(row["features"]) == {"rating", "popularity", "genre"} for row in results)
    models = {model["name"]: model for model in house.get("/mlflow/models").json()["models"]}
    assert models.keys() == {"movie_recommender", "movie_predictor"}
    latest = models["movie_recommender"]["latest_versions"][0]
    assert (latest["version"], latest["stage"]) == ("1", "Production")
    assert house.get("/api/v1/features/movie/999999").status_code == 404
    assert film.json()["is_stale"] is batch.json()["is_stale"] is False


def test_features_that_nobody_renewed_are_answered_as_stale(house: House) -> None:
    """Fault 30: the last values, marked, and a time stamp for the alert; until the next filling."""
    house.wait_for(lambda: house.get("/api/v1/features/movie/1").status_code == 200)
    note = house.home / "var" / "online_store"
    filled = note.stat().st_mtime
    fresh = house.get("/api/v1/features/movie/1").json()
    long_ago = filled - 49 * 3600
    os.utime(note, (long_ago, long_ago))
    stale = house.get("/api/v1/features/movie/1").json()
    assert (fresh["is_stale"], stale["is_stale"]) == (False, True)
    assert stale["features"] == fresh["features"]
    assert datetime.fromisoformat(stale["materialized_at"]).timestamp() == pytest.approx(long_ago)
    (line,) = (
        line
        for line in house.get("/metrics").text.splitlines()
        if line.startswith("features_materialized_timestamp_seconds ")
    )
    assert float(line.split()[1]) == pytest.approx(long_ago)
    os.utime(note, (filled, filled))
    assert house.get("/api/v1/features/movie/1").json() == fresh
    assert house.get("/mlflow/models/no_such_model").status_code == 404


def test_a_pipeline_run_needs_the_key(house: House) -> None:
    path = "/api/v1/pipelines/data_collection/runs"
    refused = house.post(path, {})
    assert refused.status_code == 401
    assert "X-API-Key" in refused.text
    answer = house.post(path, {}, **house.key)
    assert answer.status_code == 202, answer.text
    run_id = answer.json()["run_id"]

    def is_done() -> bool:
        return bool(house.get(f"/api/v1/pipelines/runs/{run_id}").json()["state"] != "running")

    house.wait_for(is_done)
    record = house.get(f"/api/v1/pipelines/runs/{run_id}").json()
    assert record["state"] == "succeeded", record
    assert [step["name"] for step in record["steps"]] == [
        "collect", "process", "simulate", "snapshot",
    ]  # fmt: skip
    assert house.path_of("1") == "personal"
    unknown = house.post("/api/v1/pipelines/no_such/runs", {}, **house.key)
    assert unknown.status_code == 404


def test_a_second_up_on_this_home_is_refused(house: House) -> None:
    second = call_up("--home", house.home, "--port", str(free_port()), cwd=house.home)
    assert second.returncode == 4, second.stderr
    assert house.process is not None
    assert f"process {house.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_restore_beside_the_worker_is_refused(house: House) -> None:
    command = [sys.executable, "-m", "movie_mlops", "snapshot", "restore", "any"]
    done = subprocess.run(
        [*command, "--home", str(house.home)],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert "movie-mlops worker" in done.stderr


def test_a_taken_port_is_told(house: House, tmp_path: Path) -> None:
    done = call_up("--home", tmp_path, "--port", str(house.port), cwd=tmp_path)
    assert done.returncode == 3
    assert str(house.port) in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "var/serving").exists()


def test_a_folder_of_another_source_is_left_alone(house: House, tmp_path: Path) -> None:
    (tmp_path / "data/processed").mkdir(parents=True)
    (tmp_path / "data/processed/movies.parquet").touch()
    (tmp_path / "data/source").write_text("movielens\n")
    # the taken port ends it before any work is done
    done = call_up("--port", str(house.port), cwd=tmp_path)
    assert done.returncode == 3
    assert "homes/sample" in done.stdout
    assert (tmp_path / "homes/sample/data/source").read_text() == "sample\n"
    assert (tmp_path / "data/source").read_text() == "movielens\n"
    assert not (tmp_path / ".env").exists()
    asked = call_up("--home", tmp_path, "--port", str(house.port), cwd=tmp_path)
    assert asked.returncode == 3
    assert "movielens" in asked.stderr


def test_a_killed_api_is_started_again(house: House) -> None:
    def api() -> psutil.Process | None:
        found = (each for each in house.family()[1:] if "api" in each.cmdline())
        return next(found, None)

    killed = api()
    assert killed is not None
    killed.kill()
    psutil.wait_procs([killed], timeout=10)
    house.wait_for(lambda: house.get("/health").status_code == 200 and api() is not None)
    fresh = api()
    assert fresh is not None
    assert fresh.pid != killed.pid
    assert "api ended (-9)" in house.output
    assert house.path_of("1") == "personal"


def test_kill_9_of_everything_keeps_the_click_and_starts_fast(first_start: Start) -> None:
    house = first_start.house
    assert house.path_of("brand-new") == "newcomer"
    listed = house.get("/api/v1/recommendations", user_id="brand-new").json()["items"]
    body = {"user_id": "brand-new", "movie_id": listed[0]["movie_id"], "interaction_type": "like"}
    accepted = house.post(LIKES, body)
    assert accepted.status_code == 202
    house.kill()
    house.start()
    seconds = house.wait_for(lambda: house.path_of("brand-new") == "personal")
    assert seconds < first_start.seconds_to_personal / 2
    shown = house.get("/api/v1/recommendations", user_id="brand-new", k=100).json()["items"]
    assert listed[0]["movie_id"] not in {item["movie_id"] for item in shown}
    house.wait_for(lambda: "· ready ·" in house.output)
    assert "data_collection:" not in house.output
    assert "admin key made" not in house.output


def test_two_workers_share_the_port_and_their_counts(house: House) -> None:
    assert house.process is not None
    house.process.send_signal(signal.SIGTERM)
    assert house.process.wait(30) == 0
    house.workers = 2
    house.start()

    def workers() -> list[psutil.Process]:
        return [each for each in house.family()[1:] if "api" in each.cmdline()]

    house.wait_for(lambda: "\napi_ready_processes 2.0" in house.get("/metrics").text)
    assert len(workers()) == 2
    assert all(house.path_of("1") == "personal" for _ in range(6))
    killed = workers()[0]
    killed.kill()
    killed.wait(30)  # until then the kernel still deals out connections to it
    assert all(house.path_of("1") == "personal" for _ in range(6))  # the other takes them
    house.wait_for(lambda: "api-1 ended (-9)" in house.output or "api-2 ended (-9)" in house.output)
    house.wait_for(lambda: "\napi_ready_processes 2.0" in house.get("/metrics").text)


def test_children_end_when_the_supervisor_alone_is_killed(house: House) -> None:
    assert house.process is not None
    children = house.family()[1:]
    assert children
    house.process.kill()
    house.process.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


def test_sigterm_ends_everything_with_0(house: House) -> None:
    assert house.process is not None
    family = house.family()
    house.process.send_signal(signal.SIGTERM)
    assert house.process.wait(30) == 0
    _, alive = psutil.wait_procs(family[1:], timeout=5)
    assert not alive
    assert "Traceback" not in house.output
