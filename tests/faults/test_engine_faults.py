"""Faults of Redis, MLflow's server and PostgreSQL: what degrades, and that it comes back whole."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.houses import answering
from tests.redis_server import RedisServer
from tests.stacks import required, started

from movie_mlops.api.control import create_control_app
from movie_mlops.bootstrap import Services, build_services
from movie_mlops.domain.errors import EngineUnavailableError, EntityNotFoundError, StepFailedError
from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.features.store import entity_features
from movie_mlops.models.manifest import read_manifest
from movie_mlops.models.registry import ModelRegistry, RunRecord
from movie_mlops.orchestration.base import PipelineRun
from movie_mlops.settings import load_settings
from movie_mlops.stack import Stack

SMALL: dict[str, Any] = {
    "sample_films": 120,
    "sample_people": 80,
    "sample_watches_per_person": 25,
    "promotion_samples": 100,
    "candidate_algorithms": ("item_neighbours",),
}


def run(services: Services, *names: str) -> PipelineRun:
    for name in names:
        done = services.local_runner.execute(services.pipeline(name), {}, lambda *_: None)
    return done


def wait_for(is_there: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if is_there():
                return
        except EngineUnavailableError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture
def featured(redis_server: RedisServer, tmp_path: Path) -> Iterator[Services]:
    """A home with tables and features, these in Redis."""
    settings = load_settings(
        tmp_path / "home",
        online_store_url=redis_server.url,
        online_store_password=redis_server.password,
        **SMALL,
    )
    services = build_services(settings)
    run(services, "data_collection", "feature_engineering")
    yield services
    services.close()


@pytest.mark.engine("redis")
def test_an_online_store_that_goes_hangs_fills_or_forgets_is_said_and_comes_back(
    featured: Services, redis_server: RedisServer
) -> None:
    """Fault 29, Fault 34 and Fault 77, on Redis."""
    with answering(create_control_app(featured)) as url, httpx.Client(base_url=url) as worker:
        worker.timeout = 30
        check_online_store(worker, featured, redis_server)


def check_online_store(worker: httpx.Client, featured: Services, redis_server: RedisServer) -> None:
    """Gone, silent, full, empty."""
    path, names = "/api/v1/features/movie/7", entity_features("movie")

    def refused() -> None:
        began = time.monotonic()
        answer = worker.get(path)
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        assert time.monotonic() - began < 15  # it was not waited for

    whole = worker.get(path).json()
    assert whole["features"]["genre"]
    # 29: gone, and killed without a word (77): what was stored is in its file
    redis_server.kill()
    refused()
    redis_server.start()
    assert worker.get(path).json() == whole
    # 29: there, and silent
    redis_server.freeze()
    refused()
    redis_server.thaw()
    assert worker.get(path).json() == whole
    # 34: full: nothing new is stored, what is there is served, the run says why
    run(featured, "data_collection")  # the films are of now: there is something to store
    with redis_server.client() as client:
        client.config_set("maxmemory", "1mb")
        with pytest.raises(StepFailedError, match=r"OOM|maxmemory"):
            run(featured, "feature_engineering")
        assert worker.get(path).json() == whole
        client.config_set("maxmemory", "0")
        run(featured, "feature_engineering")
        # 34: forgotten, as after an eviction: null is told apart from a value, and filled again
        client.flushall()
    with pytest.raises(EntityNotFoundError):
        featured.features.get_entity("movie", 7, names)
    assert worker.get(path).status_code == 404
    run(featured, "feature_engineering")
    assert worker.get(path).json()["features"] == whole["features"]


@pytest.fixture(scope="module")
def tracked() -> Iterator[Stack]:
    """MLflow's server on PostgreSQL."""
    with started("mlflow") as stack:
        required(stack, "mlflow")
        yield stack


def kill(stack: Stack, engine: str) -> None:
    """SIGKILL to every process of an engine of ours."""
    (found,) = [each for each in stack.status() if each.name == engine]
    assert found.pids
    gone = [psutil.Process(pid) for pid in found.pids]
    for each in gone:
        each.kill()
    psutil.wait_procs(gone, timeout=20)


@pytest.mark.engine("mlflow")
@pytest.mark.timeout(400)
def test_a_registry_that_is_away_stops_no_serving_and_loses_no_version(
    tracked: Stack, tmp_path: Path
) -> None:
    """Fault 41 on MLflow's server: at the start, during a run, and back again."""
    url = tracked.environment()["MOVIE_MLOPS_TRACKING_URL"]
    services = build_services(load_settings(tmp_path / "home", tracking_url=url, **SMALL))
    run(services, "data_collection", "training", "rollout")
    before = read_manifest(services.serving)[MOVIE_RECOMMENDER]
    assert before.champion is not None
    kill(tracked, "mlflow")
    with pytest.raises(EngineUnavailableError):
        services.registry.list_models()
    with pytest.raises(StepFailedError, match="register_model_to_mlflow"):
        run(services, "training")
    assert read_manifest(services.serving)[MOVIE_RECOMMENDER] == before  # it serves on
    tracked.up(["mlflow"])
    wait_for(services.registry.list_models)
    run(services, "training")
    found = services.registry.get_model_metadata(MOVIE_RECOMMENDER)
    assert int(found.version) > int(before.champion.version)
    champion = services.registry.get_model_metadata(MOVIE_RECOMMENDER, "champion")
    assert champion.version == before.champion.version
    services.close()


@pytest.mark.engine("mlflow")
@pytest.mark.timeout(400)
def test_killed_under_load_the_database_keeps_every_acknowledged_run(
    tracked: Stack, tmp_path: Path
) -> None:
    """Fault 77: PostgreSQL is killed while runs are written; none that was answered is missing."""
    registry = ModelRegistry(tracked.environment()["MOVIE_MLOPS_TRACKING_URL"], tmp_path)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "card.json").write_text(json.dumps({"algorithm": "none"}))
    record = RunRecord(
        "killed", {"seed": 1}, {"ndcg@10": 0.5}, bundle, tags={"snapshot": "s", "algorithm": "a"}
    )
    acknowledged: list[str] = []
    refusals = 0
    for number in range(30):
        if number == 8:
            kill(tracked, "postgresql")
        if number == 11:
            tracked.up(["postgresql"])
        try:
            run_id = registry.log_run("killed", record)
            acknowledged.append(registry.register_model("killed", run_id).version)
        except EngineUnavailableError:
            refusals += 1
    assert refusals > 0
    assert len(acknowledged) > 15  # it came back by itself
    for version in acknowledged:
        assert registry.get_model_metadata("killed", version).metrics == {"ndcg_at_10": 0.5}
    wanted = sorted(map(int, acknowledged))
    assert wanted == sorted(set(wanted))
