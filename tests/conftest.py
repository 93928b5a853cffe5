"""Fixtures for all tests: settings on a temporary home, real data where it lies beside."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from movie_mlops.settings import Settings

if TYPE_CHECKING:
    from tests.airflow_house import AirflowHouse
    from tests.kafka_broker import Broker
    from tests.postgres import Postgres
    from tests.redis_server import RedisServer

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="module", autouse=True)
def signals_as_found() -> Iterator[None]:
    """Put back the handlers that a module's servers and engines (uvicorn, Spark) changed.

    The next module would not see a Ctrl-C.
    """
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in found.items():
        signal.signal(number, handler)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Laptop defaults on a fresh home, with a catalogue small enough for tests."""
    return Settings(home=tmp_path, sample_films=120, sample_people=80, sample_watches_per_person=25)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets beside the checkout."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("real data sets (MovieLens, IMDb, TMDB) are not beside the checkout")
    return folder


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Broker"]:
    """A real Kafka broker for all tests of this process; give each a prefix of its own."""
    from tests.kafka_broker import brokers

    yield from brokers(tmp_path_factory.mktemp("kafka"))


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator["RedisServer"]:
    """A real Redis server of this test's own."""
    from tests.redis_server import redis_servers

    folder = tmp_path / "redis"
    folder.mkdir()
    yield from redis_servers(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator["Postgres"]:
    """A real PostgreSQL for all tests of this process; each asks for a database of its own."""
    from tests.postgres import postgres_servers

    yield from postgres_servers()


@pytest.fixture(scope="session")
def airflow() -> Iterator["AirflowHouse"]:
    """A real Airflow for all tests of this process, whose home a test may fill."""
    from tests.airflow_house import airflow_houses

    yield from airflow_houses()
