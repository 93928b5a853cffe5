"""The contract of the feature store on Feast with DuckDB: SQLite, Redis, Feast's own server."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
from tests.redis_server import redis_servers

from movie_mlops.bootstrap import build_services
from movie_mlops.data.lake import Lake
from movie_mlops.data.tables import INTERACTIONS, MOVIES, PEOPLE
from movie_mlops.domain.errors import (
    ConfigurationError,
    EngineUnavailableError,
    EntityNotFoundError,
    FeatureViewNotFoundError,
)
from movie_mlops.features.engineering.build import build_features
from movie_mlops.features.online import PASSWORD_KEY
from movie_mlops.features.server import FeatureServer
from movie_mlops.features.store import FeatureStore, entity_features, materialized_into
from movie_mlops.features.training_set import build_training_set
from movie_mlops.features.views import VIEWS
from movie_mlops.settings import Settings, turn_off_telemetry

ROOT = Path(__file__).resolve().parents[2]
START = datetime(2026, 1, 1, tzinfo=UTC)
turn_off_telemetry()


def write_tables(lake: Lake) -> pl.DataFrame:
    """Four films, three people, thirty acts; some in the same second."""
    lake.processed.mkdir(parents=True)
    movies = [
        {"movie_id": number, "title": f"Film {number}", "genres": [genre], "directors": [],
         "cast": [], "vote_average": 6.0 + number / 2, "vote_count": 10 * number,
         "popularity": float(number), "adult": False, "year": 2000 + number}
        for number, genre in enumerate(("Drama", "Comedy", "Drama", "Horror"), 1)
    ]  # fmt: skip
    pl.DataFrame(movies, schema=MOVIES.schema).write_parquet(lake.path("movies"))
    rng = np.random.default_rng(0)
    acts = pl.DataFrame(
        {
            "user_id": [str(user) for user in rng.integers(1, 4, 30)],
            "movie_id": rng.integers(1, 5, 30),
            "interaction_type": ["rating"] * 30,
            "rating": rng.integers(1, 11, 30) / 2,
            "timestamp": [
                START + timedelta(seconds=int(s)) for s in np.sort(rng.integers(0, 20, 30))
            ],
            "line": range(30),
        },
        schema=INTERACTIONS.schema,
    )
    acts.write_parquet(lake.path("interactions"))
    people = [
        {"user_id": "1", "name": "Ada", "age": 36},
        {"user_id": "2", "name": "Bo", "age": None},
    ]
    pl.DataFrame(people, schema=PEOPLE.schema).write_parquet(lake.path("people"))
    return acts


class Ground(NamedTuple):
    """A home and how its features are reached."""

    home: Path
    store: FeatureStore
    password: str


@contextmanager
def feast_server(home: Path, password: str) -> Iterator[str]:
    """`feast serve` as a team runs it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    feast = str(Path(sys.executable).parent / "feast")
    with (home / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [feast, "serve", "-h", "127.0.0.1", "-p", str(port)],
            cwd=home / "feast_repo", env={**os.environ, PASSWORD_KEY: password},
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    server, deadline = FeatureServer(f"http://127.0.0.1:{port}"), time.monotonic() + 120
    try:
        while True:
            try:
                server.ping()
                break
            except EngineUnavailableError:
                said = (home / "serve.log").read_text(errors="replace")[-3000:]
                assert process.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.close()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(
    scope="module",
    params=[
        "sqlite",
        pytest.param("redis", marks=pytest.mark.engine("redis")),
        pytest.param("server", marks=pytest.mark.engine("redis")),
    ],
)
def ground(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:
    home = tmp_path_factory.mktemp("home")
    (home / "var").mkdir()
    lake = Lake(home / "data")
    write_tables(lake)
    assert set(build_features(lake)) == set(VIEWS)
    with ExitStack() as stack:
        how: tuple[str, str | None] = ("sqlite:../var/online.db", None)
        if request.param != "sqlite":
            folder = tmp_path_factory.mktemp("redis")
            redis = stack.enter_context(contextmanager(redis_servers)(folder))
            how = (redis.url, redis.password)
        store = FeatureStore(home / "feast_repo", *how)
        store.apply()
        store.materialize()
        assert materialized_into(home / "feast_repo").read_text() == how[0]
        if request.param == "server":
            url = stack.enter_context(feast_server(home, how[1] or ""))
            store = FeatureStore(home / "feast_repo", *how, url)
            stack.callback(store.close)
        yield Ground(home, store, how[1] or "")


@pytest.fixture
def home(ground: Ground) -> Path:
    return ground.home


@pytest.fixture
def store(ground: Ground) -> FeatureStore:
    return ground.store


def test_online_values_are_the_latest(store: FeatureStore, home: Path) -> None:
    acts = pl.read_parquet(home / "data/processed/interactions.parquet")
    mine = acts.filter(pl.col("user_id") == "1")
    found = store.get_entity("user", "1", entity_features("user"))
    assert found["age"] == 36
    assert found["interaction_count"] == len(mine)
    assert found["mean_rating"] == pytest.approx(mine["rating"].mean())
    assert store.get_entity("movie", 3, entity_features("movie"))["rating"] == 7.5


def test_an_unknown_entity_or_feature_is_an_error(store: FeatureStore) -> None:
    with pytest.raises(EntityNotFoundError):
        store.get_entity("movie", 999, entity_features("movie"))
    with pytest.raises(FeatureViewNotFoundError):
        store.get_online(["movie_features:no_such"], [{"movie_id": 1}])
    with pytest.raises(FeatureViewNotFoundError):
        entity_features("director")


def test_in_a_batch_the_unknown_is_null_and_order_is_kept(store: FeatureStore) -> None:
    rows = store.get_online(["movie_features:rating"], [{"movie_id": n} for n in (4, 999, 1)])
    assert [row["rating"] for row in rows] == [8.0, None, 6.5]


def test_no_later_row_leaks_into_the_training_set(store: FeatureStore, home: Path) -> None:
    acts = pl.read_parquet(home / "data/processed/interactions.parquet")
    found = build_training_set(store, acts)
    assert len(found) == len(acts)
    assert found["label"].to_list() == [int(rating >= 3) for rating in acts["rating"]]
    for row, act in zip(found.to_dicts(), acts.to_dicts(), strict=True):
        before = acts.filter(pl.col("timestamp") < act["timestamp"])
        mine = before.filter(pl.col("user_id") == act["user_id"])
        film = before.filter(pl.col("movie_id") == act["movie_id"])
        assert (row["interaction_count"] or 0) == len(mine)
        assert row["mean_rating"] == (pytest.approx(mine["rating"].mean()) if len(mine) else None)
        viewers = film.filter(pl.col("rating") >= 3)["user_id"].n_unique()
        assert (row["watch_count"] or 0) == viewers
        assert row["rating"] is None  # facts were collected after all these acts


def test_an_entity_that_is_erased_is_gone_and_comes_back_with_the_tables(
    store: FeatureStore, home: Path
) -> None:
    names = entity_features("user")
    before = store.get_entity("user", "2", names)
    assert store.erase("user", "2") > 0
    assert store.erase("user", "2") == 0
    with pytest.raises(EntityNotFoundError):
        store.get_entity("user", "2", names)
    assert store.get_entity("user", "1", names)
    store.materialize()
    assert store.get_entity("user", "2", names) == before


def test_a_later_value_replaces_an_earlier_one_and_never_the_other_way(
    store: FeatureStore, home: Path
) -> None:
    """Fault 33: a late write that is older than what is stored."""
    path = home / "data" / "features" / "movie_features.parquet"
    kept = path.read_bytes()
    old = pl.read_parquet(path)
    newer, older = (
        old.with_columns(
            pl.col("event_timestamp").dt.offset_by(offset), popularity=pl.lit(popularity)
        )
        for offset, popularity in (("1ms", 77.0), ("-1h", 55.0))
    )
    for rows in (newer, pl.concat([newer, older])):
        rows.write_parquet(path)
        store.materialize()
        row = store.get_entity("movie", 1, ["movie_features:popularity"])
        assert row["popularity"] == 77.0
    path.write_bytes(kept)


@pytest.mark.slow
@pytest.mark.parametrize("ground", ["sqlite"], indirect=True)
def test_the_guides_commands_work_as_typed(home: Path) -> None:
    feast = str(Path(sys.executable).parent / "feast")
    for command, expected in (
        (["apply"], ""),
        (["feature-views", "list"], "movie_features"),
        (["entities", "list"], "movie"),
        (["feature-services", "list"], "recommendation_v1"),
    ):
        done = subprocess.run(
            [feast, *command], cwd=home / "feast_repo", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout


SNIPPET = """
from feast import FeatureStore
store = FeatureStore(repo_path='.')
print(store.get_online_features(
    features=['movie_features:rating','movie_features:popularity','user_features:age','user_features:genre_preference'],
    entity_rows=[{'movie_id':1,'user_id':1},{'movie_id':2,'user_id':1}]).to_df().to_json())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "ground", ["sqlite", pytest.param("redis", marks=pytest.mark.engine("redis"))], indirect=True
)
def test_the_guides_snippet_works_as_typed(ground: Ground) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SNIPPET], cwd=ground.home / "feast_repo",
        env={**os.environ, PASSWORD_KEY: ground.password},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert '"rating":{"0":6.5,"1":7.0}' in done.stdout, done.stderr
    assert '"age":{"0":36' in done.stdout


def test_the_committed_repository_is_what_the_store_writes(tmp_path: Path) -> None:
    FeatureStore(tmp_path / "feast_repo").write_repository()
    for name in ("feature_store.yaml", "definitions.py"):
        written = (tmp_path / "feast_repo" / name).read_text()
        assert (ROOT / "feast_repo" / name).read_text() == written


def test_the_configuration_follows_the_url_unless_somebody_made_it_his_own(
    tmp_path: Path,
) -> None:
    path = tmp_path / "feature_store.yaml"
    FeatureStore(tmp_path).write_repository()
    FeatureStore(tmp_path, "redis://127.0.0.1:6380/2", "a secret").write_repository()
    text = path.read_text()
    assert "connection_string: 127.0.0.1:6380,db=2" in text
    assert "a secret" not in text
    assert f"password=${{{PASSWORD_KEY}}}" in text
    path.write_text("project: mine\n")
    FeatureStore(tmp_path).write_repository()
    assert path.read_text() == "project: mine\n"
    with pytest.raises(ConfigurationError, match="ONLINE_STORE_URL"):
        FeatureStore(tmp_path, "mongo://x")


def test_the_tables_may_lie_in_another_folder(tmp_path: Path) -> None:
    services = build_services(Settings(home=tmp_path, lake_url="file:elsewhere"))
    (tmp_path / "var").mkdir()
    write_tables(services.lake)
    build_features(services.lake)
    services.features.apply()
    services.features.materialize()
    assert not (tmp_path / "data").exists()
    assert services.features.get_entity("movie", 3, entity_features("movie"))["rating"] == 7.5
    services.close()


def test_a_home_without_features_says_so(tmp_path: Path, home: Path) -> None:
    shutil.copytree(home / "feast_repo", tmp_path / "feast_repo")
    (tmp_path / "var").mkdir()
    with pytest.raises(EngineUnavailableError):
        FeatureStore(tmp_path / "feast_repo").get_online(
            ["movie_features:rating"], [{"movie_id": 1}]
        )
