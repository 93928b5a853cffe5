"""Faults 29-34, 36, 46, 47, 62: stores that fail, memory, diverged training, ids, stampedes."""

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from tests.contracts.test_feature_store import write_tables
from tests.houses import api_services, furnish, interactions, movies, running, training

from movie_mlops.api.hot_lists import ReadyLists
from movie_mlops.data.lake import Lake
from movie_mlops.domain.errors import EngineUnavailableError, ModelError
from movie_mlops.events.schemas import new_event_id
from movie_mlops.features.engineering.build import build_features
from movie_mlops.features.store import FeatureStore, entity_features
from movie_mlops.models.algorithms import create
from movie_mlops.models.bundle import save_bundle
from movie_mlops.models.serving.catalogue import Catalogue
from movie_mlops.models.serving.recommender import RecommendationService
from movie_mlops.settings import Settings

LISTS = "/api/v1/recommendations"


def test_29_56_a_feature_store_that_is_away_costs_nobody_a_list(tmp_path: Path) -> None:
    """Fault 29 and Fault 56: features answer 503 with Retry-After, lists do not ask for them."""
    settings = Settings(home=tmp_path)
    furnish(settings)
    with running(settings) as url, httpx.Client(base_url=url) as api:
        away = api.get("/api/v1/features/user/1")
        assert away.status_code == 503
        assert away.headers["retry-after"]
        assert api.get(f"{LISTS}?user_id=1").json()["path"] == "personal"
        assert "no_worker" in api.get("/health").json()["limits"]


@pytest.mark.slow
def test_31_32_33_34_what_a_store_gives_is_whole_typed_and_the_latest(tmp_path: Path) -> None:
    """Fault 31, Fault 32, Fault 33, Fault 34: partial rows, types, late writes, lost values."""
    lake = Lake(tmp_path / "data")
    (tmp_path / "var").mkdir()
    write_tables(lake)
    build_features(lake)
    store = FeatureStore(tmp_path / "feast_repo")
    store.apply()
    store.materialize()
    names = entity_features("movie")
    before = store.get_entity("movie", 3, names)
    # 31: what is not known of an entity is null, in its place
    unknown, known = store.get_online(names[:2], [{"movie_id": 999}, {"movie_id": 3}])
    assert set(unknown.values()) == {None}
    assert all(value is not None for value in known.values())
    # 33: a row that is older than what is stored changes nothing
    files = [path for path in tmp_path.rglob("*.parquet") if "movie_features" in str(path)]
    for path in files:
        table = pl.read_parquet(path)
        time = next(name for name, kind in table.schema.items() if isinstance(kind, pl.Datetime))
        late = table.with_columns(pl.col(time) - timedelta(days=30), rating=pl.lit(0.5))
        pl.concat([table, late.cast(dict(table.schema))]).write_parquet(path)  # type: ignore[arg-type]
    assert files
    store.materialize()
    assert store.get_entity("movie", 3, names) == before
    # 32: another type of a stored column is an error of the store, not a wrong value
    for path in files:
        table = pl.read_parquet(path)
        table.with_columns(pl.col("rating").cast(pl.String) + "x").write_parquet(path)
    with pytest.raises(EngineUnavailableError):
        store.materialize()
    assert store.get_entity("movie", 3, names) == before
    # 34: values that were evicted come back with the next materialization
    for path in files:
        pl.read_parquet(path).with_columns(
            pl.col("rating").str.strip_suffix("x").cast(pl.Float64)
        ).write_parquet(path)
    (tmp_path / "var" / "online.db").unlink(missing_ok=True)
    again = FeatureStore(tmp_path / "feast_repo")
    again.apply()
    again.materialize()
    assert again.get_entity("movie", 3, names) == before


def test_34_62_kept_lists_are_bounded_and_made_once_for_a_crowd(tmp_path: Path) -> None:
    """Fault 34: memory stays bounded. Fault 62: a crowd that asks for one list makes it once."""
    settings = Settings(home=tmp_path)
    furnish(settings)
    services = api_services(settings)
    try:
        services.loader.reload()
        services.follower.catch_up()
        made: list[int] = []
        make = RecommendationService._make

        def counted(self: Any, *arguments: Any) -> Any:
            made.append(1)
            return make(self, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RecommendationService, "_make", counted)
            small = ReadyLists(services, kept_bytes=20_000)
            asked = small.asked(b"user_id=1&k=10", b"")
            assert asked is not None
            first = small.answer(asked)

            async def crowd() -> list[object]:
                async def one() -> object:
                    return small.answer(asked)

                return await asyncio.gather(*(one() for _ in range(500)))

            assert set(map(id, asyncio.run(crowd()))) == {id(first)}
            assert len(made) == 1
        for user in range(2, 60):
            other = small.asked(f"user_id={user}&k=10".encode(), b"")
            assert other is not None
            small.answer(other)
        assert len(small._young) + len(small._old) < 30
        back = small.answer(asked)
        assert (back.head, back.tail) == (first.head, first.tail)
    finally:
        services.log.close()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_36_a_diverged_model_is_never_saved_nor_served(tmp_path: Path, bad: float) -> None:
    """Fault 36: a training that ran away ends at the bundle; scores that are none fall back."""
    model = create("sequence_linear").fit(training(interactions(), movies()))
    arrays, card = model.artifact()
    weights = next(name for name, array in arrays.items() if array.dtype.kind == "f")
    arrays = {**arrays, weights: np.full_like(arrays[weights], bad)}
    with pytest.raises(ModelError):
        save_bundle(tmp_path / "diverged", arrays, card)
    films = Catalogue(movies)
    diverged = SimpleNamespace(
        movie_ids=model.movie_ids,
        score=lambda histories: np.full((len(histories), len(model.movie_ids)), bad),
    )
    entry = SimpleNamespace(version="1", snapshot="s", card_sha256="c")
    loaded = SimpleNamespace(model=diverged, entry=entry)
    settings = Settings(home=tmp_path)
    services = api_services(settings)
    try:
        loader = SimpleNamespace(get=lambda *_: loaded)
        service = RecommendationService(loader, services.histories, films)  # type: ignore[arg-type]
        made = service.recommend("nobody", 5)  # type: ignore[arg-type]
        assert made.path == "static"
        assert len(made.items) == 5
    finally:
        services.log.close()


def test_46_what_trains_gives_way_to_what_serves() -> None:
    """Fault 46: worker and pipelines run at a lower priority than the API."""
    code = (
        "import os; from movie_mlops.settings import lower_priority; lower_priority();"
        "lower_priority(); print(os.getpriority(os.PRIO_PROCESS, 0))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(ran.stdout) >= max(10, os.getpriority(os.PRIO_PROCESS, 0))
    for module in ("cli/run.py", "api/control.py"):
        source = Path(__file__).resolve().parents[2] / "src" / "movie_mlops" / module
        assert "lower_priority()" in source.read_text()


def test_47_ids_made_within_a_millisecond_differ() -> None:
    """Fault 47: event ids made in one instant do not collide, and keep the order of time."""
    started = datetime.now(UTC)
    made = [new_event_id() for _ in range(50_000)]
    assert datetime.now(UTC) - started < timedelta(seconds=5)
    assert len(set(made)) == len(made)
    assert [name[:14] for name in made] == sorted(name[:14] for name in made)
