"""The whole stack on free ports: up, asked in its own protocols, killed, up again, down."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.kafka_broker import find_kafka

from movie_mlops.events import open_event_log
from movie_mlops.events.base import NewEvent, Place
from movie_mlops.events.schemas import SYSTEM_HEALTH
from movie_mlops.stack import Stack, Status, free_ports
from movie_mlops.stack.survey import Survey

pytestmark = [pytest.mark.engine("stack"), pytest.mark.timeout(400)]
SMALL = {
    "MOVIE_MLOPS_SAMPLE_FILMS": "120",
    "MOVIE_MLOPS_SAMPLE_PEOPLE": "80",
    "MOVIE_MLOPS_SAMPLE_WATCHES_PER_PERSON": "25",
}
KEY = "a-key-of-the-house"


def run(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "movie_mlops", *arguments, "--home", str(home)],
        env={**os.environ, **SMALL, **environment},
        capture_output=True,
        text=True,
    )


def eventually(holds: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


@contextmanager
def made_home() -> Iterator[Path]:
    """A folder that PostgreSQL's user can enter, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="movie-mlops-stack-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def new_home() -> Iterator[Path]:
    with made_home() as home:
        yield home


@pytest.fixture(scope="module")
def house() -> Iterator[Stack]:
    """Everything that is installed, on a home whose features lie in the stack's Redis."""
    if shutil.which("redis-server") is None:
        pytest.skip("no Redis server: redis-server is not on the PATH")
    with made_home() as home, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        (home / ".env").write_text(f"MOVIE_MLOPS_PORT={port}\nMOVIE_MLOPS_ADMIN_API_KEY={KEY}\n")
        probe.close()
        stack = Stack(home, free_ports(), kafka_home=find_kafka()[0])
        try:
            stack.up(["redis"])
            done = run(home, "run", "data_collection", "feature_engineering", **stack.environment())
            assert done.returncode == 0, done.stdout + done.stderr
            stack.up()
            yield stack
        finally:
            stack.down()
        assert not left_over(home)


def left_over(home: Path) -> list[int]:
    """Processes that write into a log of this home's stack."""
    return [pid for pid, to in Survey().outputs if str(home / "var" / "stack") in to]


def status_of(house: Stack, name: str) -> Status:
    """The status of an engine, or a skip that names what is missing."""
    found = next(each for each in house.status() if each.name == name)
    if found.state == "not installed":
        pytest.skip(f"no {found.title}: {found.note}")
    return found


def url_of(house: Stack, name: str) -> str:
    status_of(house, name)
    return house.ground(name).url(name)


def ask_sql(house: Stack, database: str, *statements: str, **other: str) -> list[Any]:
    import psycopg2

    ground = house.ground("postgresql")
    login = {"user": database, "password": ground.secret(f"postgresql-{database}"), **other}
    port = ground.port("postgresql")
    link = psycopg2.connect(host="127.0.0.1", port=port, dbname=database, **login)
    try:
        with link, link.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        link.close()


def redis_client(house: Stack, **other: Any) -> Any:
    import redis

    ground = house.ground("redis")
    login = {"password": ground.secret("redis"), **other}
    return redis.Redis("127.0.0.1", ground.port("redis"), decode_responses=True, **login)


def test_everything_that_is_installed_runs(house: Stack) -> None:
    found = {each.name: each for each in house.status()}
    assert found["torch"].state in ("waiting", "not installed")
    assert "neural_training" in found["torch"].note or "torch" in found["torch"].note
    rest = [each for name, each in found.items() if name != "torch"]
    assert {each.state for each in rest} <= {"running", "not installed"}
    running = [each for each in rest if each.state == "running"]
    assert len(running) >= 2
    for each in running:
        assert each.memory_bytes > 1_000_000, each
        assert each.version, each
        assert each.start_seconds is not None, each
        assert each.up_seconds is not None, each
    assert sum(each.memory_bytes for each in running) < 6 * 2**30


def test_postgresql_answers_each_role_with_its_password(house: Stack) -> None:
    import psycopg2

    status_of(house, "postgresql")
    for database in ("mlflow", "airflow", "movie_mlops"):
        assert ask_sql(house, database, "SELECT 6 * 7") == [(42,)]
    for wrong in ({"password": "wrong"}, {"password": ""}):
        with pytest.raises(psycopg2.OperationalError, match="password"):
            ask_sql(house, "mlflow", "SELECT 1", **wrong)


def test_redis_answers_only_with_the_password(house: Stack) -> None:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    client = redis_client(house)
    assert client.ping()
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    with pytest.raises(redis.exceptions.AuthenticationError):
        redis_client(house, password=None, retry=Retry(NoBackoff(), 0)).ping()


def test_kafka_keeps_the_events_of_the_house(house: Stack) -> None:
    status_of(house, "kafka")
    log = open_event_log(house.environment()["MOVIE_MLOPS_EVENTS_URL"], house.home, 0)
    try:
        new = NewEvent("one", "api", "system_health.v1", b"{}")
        [done] = log.publish(SYSTEM_HEALTH, [new])
        place = Place(done.position.topic, done.position.partition)
        assert [each.event_id for each in log.read(place, done.position.offset, 10)] == ["one"]
    finally:
        log.close()


def test_mlflow_keeps_experiments_in_postgresql(house: Stack) -> None:
    url = url_of(house, "mlflow")
    made = httpx.post(f"{url}/api/2.0/mlflow/experiments/create", json={"name": "of the stack"})
    assert made.status_code == 200, made.text
    query = "SELECT name FROM experiments WHERE name = 'of the stack'"
    assert ask_sql(house, "mlflow", query) == [("of the stack",)]
    rebound = httpx.get(f"{url}/api/2.0/mlflow/experiments/search", headers={"Host": "evil.test"})
    assert rebound.status_code == 403


def test_feasts_server_reads_the_stacks_redis(house: Stack) -> None:
    asked = {"features": ["movie_features:rating"], "entities": {"movie_id": [1, 2]}}
    answer = httpx.post(f"{url_of(house, 'feast')}/get-online-features", json=asked, timeout=20)
    assert answer.status_code == 200, answer.text
    found = dict(
        zip(
            answer.json()["metadata"]["feature_names"],
            (column["values"] for column in answer.json()["results"]),
            strict=True,
        )
    )
    assert all(isinstance(each, float) for each in found["rating"])
    assert redis_client(house).dbsize() > 100
    page = httpx.get(f"{url_of(house, 'feast-ui')}/projects-list.json", timeout=20)
    assert page.json()["projects"]


def test_prometheus_scrapes_what_was_started(house: Stack) -> None:
    url = url_of(house, "prometheus")

    def healths() -> dict[str, str]:
        found = httpx.get(f"{url}/api/v1/targets").json()["data"]["activeTargets"]
        return {each["labels"]["job"]: each["health"] for each in found}

    exporters = {"redis-exporter": "redis_up", "postgresql-exporter": "pg_up"}
    running = {each.name for each in house.status() if each.pids}
    wanted = {"prometheus"} | running & {"alertmanager", *exporters}
    eventually(lambda: {job for job, health in healths().items() if health == "up"} >= wanted)
    assert healths()["api"] in ("down", "unknown")  # the house itself does not run here

    def value_of(metric: str) -> str | None:
        answer = httpx.get(f"{url}/api/v1/query", params={"query": metric})
        found = answer.json()["data"]["result"]
        return str(found[0]["value"][1]) if found else None

    for name, metric in exporters.items():
        if name in running:
            eventually(lambda metric=metric: value_of(metric) == "1")


def test_alertmanager_tells_the_house(house: Stack) -> None:
    url, heard = url_of(house, "alertmanager"), []

    class House(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((self.path, self.headers["Authorization"], json.loads(body)))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    line = (house.home / ".env").read_text().splitlines()[0]
    server = HTTPServer(("127.0.0.1", int(line.partition("=")[2])), House)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        labels = {"alertname": "DataDriftDetected", "model": "movie_recommender"}
        alert = {"labels": labels, "startsAt": datetime.now(UTC).isoformat()}
        assert httpx.post(f"{url}/api/v2/alerts", json=[alert]).status_code == 200
        eventually(lambda: heard)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    path, authorization, body = heard[0]
    assert (path, authorization) == ("/api/v1/trigger/alertmanager", f"Bearer {KEY}")
    assert body["alerts"][0]["labels"] == labels


def test_a_second_up_starts_nothing(house: Stack) -> None:
    before = {each.name: (each.state, each.start_seconds) for each in house.status()}
    told: dict[str, str] = {}
    after = house.up(report=lambda name, text: told.update({name: text}))
    assert {each.name: (each.state, each.start_seconds) for each in after} == before
    assert {text for name, text in told.items() if before[name][0] == "running"} == {"runs already"}


def test_killed_engines_come_back_with_their_data(house: Stack) -> None:
    names = [
        each.name
        for each in house.status()
        if each.name in ("postgresql", "redis", "kafka") and each.pids
    ]
    redis_client(house).set("kept", "yes")
    if "postgresql" in names:
        ask_sql(house, "movie_mlops", "CREATE TABLE kept (text TEXT)")
        ask_sql(house, "movie_mlops", "INSERT INTO kept VALUES ('yes')")
    if "kafka" in names:
        log = open_event_log(house.environment()["MOVIE_MLOPS_EVENTS_URL"], house.home, 0)
        new = NewEvent("kept", "api", "system_health.v1", b"{}")
        [done] = log.publish(SYSTEM_HEALTH, [new])
        log.close()
    for name in names:
        leader = (house.ground(name).folder / "server.pid").read_text().split()[1]
        os.kill(int(leader), signal.SIGKILL)
    found = eventually(
        lambda: [each for each in house.status() if each.name in names and each.state == "stopped"]
    )
    assert all(each.is_broken and "ended by itself" in each.note for each in found)
    after = {each.name: each for each in house.up(names)}
    assert {after[name].state for name in names} == {"running"}
    assert redis_client(house).get("kept") == "yes"
    if "postgresql" in names:
        assert ask_sql(house, "movie_mlops", "SELECT text FROM kept") == [("yes",)]
        # what stands on it finds it again, and is not started anew
        eventually(lambda: status_of(house, "mlflow").state == "running")
    if "kafka" in names:
        log = open_event_log(house.environment()["MOVIE_MLOPS_EVENTS_URL"], house.home, 0)
        place = Place(done.position.topic, done.position.partition)
        read = log.read(place, done.position.offset, 10)
        log.close()
        assert [each.event_id for each in read] == ["kept"]


def test_an_up_that_was_killed_is_finished_by_the_next(new_home: Path) -> None:
    kafka = find_kafka()[0]
    house = Stack(new_home, free_ports(), kafka_home=kafka)
    found = [engine for engine in house.engines if engine.name in ("postgresql", "redis", "kafka")]
    names = [engine.name for engine in found if engine.missing() is None]
    if not names:
        pytest.skip("none of PostgreSQL, Redis and Kafka is installed")
    ports = dict(house.ground(names[0]).ports)
    command = ["up", *names, *(f"--port={name}={port}" for name, port in ports.items())]
    if kafka is not None:
        command.append(f"--kafka-home={kafka}")
    for seconds in (0.6, 0.9, 2.0):
        with subprocess.Popen(
            [sys.executable, "-m", "movie_mlops", "stack", *command, f"--home={new_home}"],
            stdout=subprocess.DEVNULL,
        ) as cut_short:
            time.sleep(seconds)
            cut_short.kill()
    try:
        house = Stack(new_home)  # ports and Kafka are remembered
        after = {each.name: each for each in house.up(names)}
        for name in names:
            assert (after[name].state, after[name].port) == ("running", ports[name]), after[name]
            ours = [pid for pid, to in Survey().outputs if f"{new_home}/var/stack/{name}/" in to]
            assert set(ours) <= set(after[name].pids), "one start of it, and no more"
            assert not (house.ground(name).folder / "setup.log").exists()
    finally:
        house.down()
    assert not left_over(new_home)


def test_down_leaves_nothing_and_frees_the_ports(house: Stack) -> None:
    ports = [house.ground(each.name).port(each.name) for each in house.status()]
    house.down()
    assert not left_over(house.home)
    assert not [each for each in house.status() if each.pids or each.state == "running"]
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    assert house.environment() == {}
