"""The contract of the feature store, on Feast with DuckDB and SQLite; one store for all tests."""

import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from movie_mlops.data.lake import Lake
from movie_mlops.data.tables import INTERACTIONS, MOVIES, PEOPLE
from movie_mlops.domain.errors import (
    EngineUnavailableError,
    EntityNotFoundError,
    FeatureViewNotFoundError,
)
from movie_mlops.features.engineering.build import build_features
from movie_mlops.features.store import FeatureStore, entity_features
from movie_mlops.features.training_set import build_training_set
from movie_mlops.features.views import VIEWS
from movie_mlops.settings import turn_off_telemetry

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


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    (home / "var").mkdir()
    lake = Lake(home / "data")
    write_tables(lake)
    assert set(build_features(lake)) == set(VIEWS)
    store = FeatureStore(home / "feast_repo")
    store.apply()
    store.materialize()
    return home


@pytest.fixture
def store(home: Path) -> FeatureStore:
    return FeatureStore(home / "feast_repo")


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


@pytest.mark.slow
def test_the_guides_commands_and_snippet_work_as_typed(home: Path) -> None:
    repository = home / "feast_repo"
    feast = str(Path(sys.executable).parent / "feast")
    for command, expected in (
        (["apply"], ""),
        (["feature-views", "list"], "movie_features"),
        (["entities", "list"], "movie"),
        (["feature-services", "list"], "recommendation_v1"),
    ):
        done = subprocess.run(
            [feast, *command], cwd=repository, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
    snippet = """
from feast import FeatureStore
store = FeatureStore(repo_path='.')
print(store.get_online_features(
    features=['movie_features:rating','movie_features:popularity','user_features:age','user_features:genre_preference'],
    entity_rows=[{'movie_id':1,'user_id':1},{'movie_id':2,'user_id':1}]).to_df().to_json())
"""
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=repository, capture_output=True, text=True, check=True
    )
    assert '"rating":{"0":6.5,"1":7.0}' in done.stdout
    assert '"age":{"0":36' in done.stdout


def test_the_committed_repository_is_what_the_store_writes(tmp_path: Path) -> None:
    FeatureStore(tmp_path / "feast_repo").write_repository()
    for name in ("feature_store.yaml", "definitions.py"):
        written = (tmp_path / "feast_repo" / name).read_text()
        assert (ROOT / "feast_repo" / name).read_text() == written


def test_a_home_without_features_says_so(tmp_path: Path, home: Path) -> None:
    shutil.copytree(home / "feast_repo", tmp_path / "feast_repo")
    (tmp_path / "var").mkdir()
    with pytest.raises(EngineUnavailableError):
        FeatureStore(tmp_path / "feast_repo").get_online(
            ["movie_features:rating"], [{"movie_id": 1}]
        )
