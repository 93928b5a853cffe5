"""A stack of the engines that start at once: Redis and Alertmanager, real, on free ports."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from movie_mlops.cli.stack import stack as command
from movie_mlops.domain.errors import ConfigurationError, EngineUnavailableError
from movie_mlops.stack import Stack, Status, free_ports
from movie_mlops.stack.engines import all_engines
from movie_mlops.stack.install import install
from movie_mlops.stack.survey import Survey


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Stack]:
    """A stack with Redis; it ends with the test."""
    if shutil.which("redis-server") is None:
        pytest.skip("no Redis server: redis-server is not on the PATH")
    stack = Stack(tmp_path, free_ports())
    yield stack
    stack.down()


def status_of(house: Stack, name: str = "redis") -> Status:
    return next(each for each in house.status() if each.name == name)


def ask_redis(house: Stack, *commands: str, password: str | None = None) -> list[str]:
    said = [f"AUTH {password or house.ground('redis').secret('redis')}", *commands]
    with socket.create_connection(("127.0.0.1", house.ground("redis").port("redis")), 5) as link:
        answers = link.makefile("rwb")
        answers.write("".join(f"{line}\r\n" for line in said).encode())
        answers.flush()
        return [answers.readline().decode().strip() for _ in said]


def test_redis_comes_up_answers_and_goes(house: Stack) -> None:
    told: list[tuple[str, str]] = []
    house.up(["redis"], lambda name, text: told.append((name, text)))
    assert told[0] == ("redis", "starting")
    assert told[-1][1].startswith("healthy after")
    assert ask_redis(house, "PING") == ["+OK", "+PONG"]
    assert ask_redis(house, "PING", password="x" * 43)[1].startswith("-NOAUTH")
    found = status_of(house)
    assert (found.state, found.is_broken, len(found.pids)) == ("running", False, 1)
    assert found.memory_bytes > 1_000_000
    assert found.version
    assert found.start_seconds is not None
    assert {each.name for each in house.status() if each.state == "running"} == {"redis"}
    port = house.ground("redis").port("redis")
    assert house.environment() == {
        "MOVIE_MLOPS_ONLINE_STORE_URL": f"redis://127.0.0.1:{port}/0",
        "MOVIE_MLOPS_ONLINE_STORE_PASSWORD": house.ground("redis").secret("redis"),
    }
    house.down()
    assert (status_of(house).state, house.environment()) == ("stopped", {})
    assert found.pids[0] not in Survey()._rows
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


def test_engines_that_run_code_of_the_house_see_what_runs(house: Stack, tmp_path: Path) -> None:
    home = {"MOVIE_MLOPS_HOME": str(tmp_path)}
    assert house.ground("torch").house() == home
    house.up(["redis"])
    assert house.ground("torch").house() == {**home, **house.environment()}
    assert house.ground("redis").house() == home


def test_only_root_installs_and_only_what_is_missing(
    house: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert house.missing_packages(["redis"]) == []
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert house.missing_packages(["redis", "alertmanager"]) == [
        "prometheus-alertmanager",
        "redis-server",
    ]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(EngineUnavailableError, match=r"type: sudo apt-get install .* redis-server"):
        install(["redis-server"])


def test_a_second_up_starts_nothing(house: Stack, tmp_path: Path) -> None:
    house.up(["redis"])
    before = status_of(house)
    told: list[str] = []
    Stack(tmp_path).up(["redis"], lambda _name, text: told.append(text))  # it remembers the ports
    assert told == ["runs already"]
    assert status_of(house).pids == before.pids


def test_a_killed_engine_is_told_and_comes_back_with_its_data(house: Stack) -> None:
    house.up(["redis"])
    assert ask_redis(house, "SET kept yes") == ["+OK", "+OK"]
    os.kill(status_of(house).pids[0], signal.SIGKILL)
    while status_of(house).pids:
        time.sleep(0.01)
    found = status_of(house)
    assert (found.state, found.is_broken) == ("stopped", True)
    assert "it ended by itself" in found.note
    house.up(["redis"])
    assert status_of(house).state == "running"
    assert ask_redis(house, "GET kept")[1] == "$3"


def test_a_hung_engine_is_started_again(
    house: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("movie_mlops.stack.start._PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr("movie_mlops.stack.asking.ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("movie_mlops.stack.redis.Redis.stop_seconds", 0.2)
    house.up(["redis"])
    pid = status_of(house).pids[0]
    os.kill(pid, signal.SIGSTOP)
    assert status_of(house).state == "unhealthy"
    path = tmp_path / "var" / "stack" / "redis" / "record.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "start_seconds": None}))
    found = status_of(house)
    assert (found.state, found.is_broken) == ("starting", False)  # not too old for it yet
    path.write_text(json.dumps(record))
    monkeypatch.setattr("movie_mlops.stack.redis.Redis.start_seconds", 2.0)
    told: list[str] = []
    house.up(["redis"], lambda _name, text: told.append(text))
    assert told[0].startswith("starting it again")
    found = status_of(house)
    assert (found.state, pid in found.pids) == ("running", False)


def test_a_half_started_engine_is_finished(house: Stack, tmp_path: Path) -> None:
    house.up(["redis"])
    before = status_of(house)
    folder = tmp_path / "var" / "stack" / "redis"
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**record, "start_seconds": None}))
    house.up(["redis"])  # it was not healthy yet when `up` was killed
    assert status_of(house).pids == before.pids
    assert status_of(house).start_seconds is not None
    (folder / "record.json").unlink()  # or the record did not come to be written
    house.up(["redis"])
    found = status_of(house)
    assert (found.state, len(found.pids)) == ("running", 1)
    assert found.pids != before.pids
    (folder / "record.json").write_text("{")
    assert status_of(house).state == "foreign"  # it answers, and nothing says that it should
    house.down(["redis"])
    assert found.pids[0] not in Survey()._rows


def test_a_taken_port_is_named_and_its_holder_left_alone(house: Stack, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        taken = Stack(tmp_path, {"redis": port})
        expected = rf"port {port} of Redis is taken by .*process {os.getpid()}.*--port redis="
        with pytest.raises(ConfigurationError, match=expected):
            taken.up(["redis"])
        found = status_of(taken)
        assert (found.state, found.pids) == ("foreign", ())
        taken.down()
        socket.create_connection(("127.0.0.1", port), 5).close()
    assert Stack(tmp_path, free_ports()).up(["redis"])


def test_another_port_needs_a_stop_first(house: Stack, tmp_path: Path) -> None:
    house.up(["redis"])
    other = Stack(tmp_path, {"redis": free_ports()["redis"]})
    with pytest.raises(ConfigurationError, match="stack down redis"):
        other.up(["redis"])
    house.down()
    other.up(["redis"])
    assert status_of(Stack(tmp_path)).port == other.ground("redis").port("redis")


@pytest.mark.parametrize(
    ("ports", "text"),
    [
        ({"reddis": 1}, "no port 'reddis'"),
        ({"redis": 0}, "port 0 of redis"),
        ({"redis": 5432}, "both have port 5432"),
        ({"kafka-controller": 9093}, "both have port 9093"),
    ],
)
def test_wrong_ports_are_refused(tmp_path: Path, ports: dict[str, int], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        Stack(tmp_path, ports)
    assert not (tmp_path / "var").exists()


def test_default_ports_are_the_contracts() -> None:
    assert {engine.name: engine.port for engine in all_engines(None)} == {
        "postgresql": 5432, "redis": 6379, "kafka": 9092, "mlflow": 5000, "feast": 6566,
        "feast-ui": 8888, "airflow": 8080, "torch": 8001, "prometheus": 9090,
        "alertmanager": 9093, "grafana": 3000, "redis-exporter": 9121, "postgresql-exporter": 9187,
    }  # fmt: skip


def test_the_page_names_every_engine_and_port() -> None:
    page = (Path(__file__).parents[3] / "docs" / "engines" / "stack.md").read_text()
    for engine in all_engines(None):
        assert f"| `{engine.name}` | {engine.port} " in page
        for port in engine.more_ports.values():
            assert str(port) in page


def test_an_absent_engine_says_how_to_get_it(tmp_path: Path) -> None:
    stack = Stack(tmp_path, kafka_home=tmp_path)
    with pytest.raises(EngineUnavailableError, match=r"Kafka cannot start: .*set KAFKA_HOME"):
        stack.up(["kafka"])
    [found] = [each for each in stack.status() if each.name == "kafka"]
    assert (found.state, found.is_broken) == ("not installed", False)
    with pytest.raises(EngineUnavailableError, match="movie-mlops run feature_engineering"):
        stack.up(["feast"])
    with pytest.raises(ConfigurationError, match="no engine 'oracle'"):
        stack.up(["oracle"])


def test_alertmanager_shows_the_houses_key(house: Stack, tmp_path: Path) -> None:
    if shutil.which("prometheus-alertmanager") is None:
        pytest.skip("no Alertmanager: prometheus-alertmanager is not on the PATH")
    (tmp_path / ".env").write_text("MOVIE_MLOPS_ADMIN_API_KEY=sesame\n")
    house.up(["alertmanager"])
    folder = tmp_path / "var" / "stack"
    key = folder / "alertmanager" / "api_key"
    assert (key.read_text(), key.stat().st_mode & 0o777) == ("sesame", 0o600)
    target = folder / "targets" / "alertmanager.json"
    port = house.ground("alertmanager").port("alertmanager")
    assert json.loads(target.read_text())[0]["targets"] == [f"127.0.0.1:{port}"]
    house.down()
    assert not target.exists()


def call(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, standalone_mode=False, catch_exceptions=False)


def test_the_commands(house: Stack, tmp_path: Path) -> None:
    home = f"--home={tmp_path}"
    port = free_ports()["redis"]
    said = call("up", "redis", home, f"--port=redis={port}").output
    assert "healthy after" in said
    assert f"{port}" in said
    found = {each["name"]: each for each in json.loads(call("status", home, "--json").output)}
    assert found["redis"]["state"] == "running"
    assert call("status", home).return_value == 0
    shell = f"{call('env', home).output}\necho $MOVIE_MLOPS_ONLINE_STORE_PASSWORD"
    ran = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == house.ground("redis").secret("redis")
    lines = call("logs", "redis", home, "-n1").output.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("redis/server  ")
    os.kill(found["redis"]["pids"][0], signal.SIGKILL)
    while status_of(house).pids:
        time.sleep(0.01)
    broken = call("status", home)
    assert broken.return_value == 1
    assert "redis: it ended by itself" in broken.output
    assert "redis" not in call("down", home).output  # nothing is left to be stopped
