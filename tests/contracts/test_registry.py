"""The contract of the registry, on MLflow in a file and on its server on PostgreSQL."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from tests.houses import interactions, movies, training
from tests.stacks import started

from movie_mlops.domain.errors import (
    ArtifactCorruptError,
    EngineUnavailableError,
    ModelVersionNotFoundError,
)
from movie_mlops.domain.versions import Alias
from movie_mlops.models.algorithms import create
from movie_mlops.models.algorithms.base import Recommender
from movie_mlops.models.bundle import CARD, save_bundle
from movie_mlops.models.registry import ModelRegistry, RunRecord
from movie_mlops.settings import turn_off_telemetry

turn_off_telemetry()


class Place(NamedTuple):
    """Where a registry lies, and where its files are."""

    uri: str
    folder: Path
    artifacts: Path

    def open(self) -> ModelRegistry:
        return ModelRegistry(self.uri, self.artifacts)

    def files(self, run_id: str) -> Path:
        """What the run left, wherever the engine put its experiment."""
        (found,) = self.artifacts.glob(f"*/{run_id}/artifacts")
        return found


@pytest.fixture(
    scope="module", params=["file", pytest.param("server", marks=pytest.mark.engine("mlflow"))]
)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("registry")
    if request.param == "file":
        yield Place(f"sqlite:///{folder / 'deep' / 'mlflow.db'}", folder, folder / "artifacts")
        return
    with started("mlflow") as stack:
        uri = stack.environment()["MOVIE_MLOPS_TRACKING_URL"]
        yield Place(uri, folder, stack.home / "var" / "stack" / "mlflow" / "artifacts")


@pytest.fixture(scope="module")
def folder(place: Place) -> Path:
    return place.folder


@pytest.fixture(scope="module")
def registry(place: Place) -> ModelRegistry:
    return place.open()


@pytest.fixture(scope="module")
def model() -> Recommender:
    fitted: Recommender = create("popularity").fit(training(interactions(), movies()))
    return fitted


@pytest.fixture(scope="module")
def record(folder: Path, model: Recommender) -> RunRecord:
    save_bundle(folder / "bundle", *model.artifact())
    (folder / "plots").mkdir()
    (folder / "plots" / "curve.svg").write_text("<svg/>")
    return RunRecord(
        name="popularity on s1",
        parameters={"algorithm": "popularity", "seed": 42, "long": "x" * 7_000},
        metrics={"ndcg@10": 0.25, "rmse": 0.9, "undefined": float("nan")},
        tags={"snapshot": "s1", "algorithm": "popularity"},
        bundle=folder / "bundle",
        plots=folder / "plots",
        texts={"evaluation.json": "{}"},
    )


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A model of this test's own."""
    return str(request.node.name)[:60]


def register(registry: ModelRegistry, record: RunRecord, name: str, count: int = 1) -> None:
    for _ in range(count):
        registry.register_model(name, registry.log_run("contract", record))


def test_a_run_keeps_parameters_metrics_and_files(
    registry: ModelRegistry, record: RunRecord, place: Place
) -> None:
    run_id = registry.log_run("files", record)
    run = registry._client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "42"
    assert run.data.metrics == {"ndcg_at_10": 0.25, "rmse": 0.9}  # no NaN, no @
    assert run.data.tags["snapshot"] == "s1"
    stored = place.files(run_id)
    assert {path.name for path in stored.iterdir()} == {"bundle", "plots", "evaluation.json"}
    assert (stored / "bundle" / CARD).read_bytes() == (record.bundle / CARD).read_bytes()
    assert (stored / "plots" / "curve.svg").read_text() == "<svg/>"


def test_experiments_are_made_once(registry: ModelRegistry) -> None:
    made = registry.create_experiment("tuning", "Which width?")
    assert registry.create_experiment("tuning") == made
    found = {each["name"]: each for each in registry.list_experiments()}
    assert found["tuning"] == {
        "experiment_id": made, "name": "tuning", "description": "Which width?",
    }  # fmt: skip


def test_versions_count_from_1_and_keep_their_lineage(
    registry: ModelRegistry, record: RunRecord, name: str
) -> None:
    run_id = registry.log_run("contract", record)
    first = registry.register_model(name, run_id, description="the first")
    assert (first.name, first.version, first.run_id) == (name, "1", run_id)
    assert (first.snapshot, first.algorithm) == ("s1", "popularity")
    assert first.metrics == {"ndcg_at_10": 0.25, "rmse": 0.9}
    second = registry.register_model(name, run_id, version="v2026.11")
    assert second.version == "2"
    assert second.tags["version"] == "v2026.11"
    listed = {model["name"]: model for model in registry.list_models()}[name]
    assert [version.version for version in listed["latest_versions"]] == ["2", "1"]


def test_an_alias_names_one_version_and_moves(
    registry: ModelRegistry, record: RunRecord, name: str
) -> None:
    register(registry, record, name, 2)
    registry.set_alias(name, Alias.CHAMPION, "1")
    assert registry.get_model_metadata(name, "champion").version == "1"
    registry.set_alias(name, Alias.CHAMPION, "2")
    assert registry.get_model_metadata(name, "champion").version == "2"
    assert registry.get_model_metadata(name, "1").aliases == ()
    registry.remove_alias(name, Alias.CHAMPION)
    registry.remove_alias(name, Alias.CHAMPION)  # again is no error
    with pytest.raises(ModelVersionNotFoundError):
        registry.get_model_metadata(name, "champion")


def test_stages_are_words_for_aliases(
    registry: ModelRegistry, record: RunRecord, name: str
) -> None:
    register(registry, record, name, 2)
    assert registry.transition_stage(name, "1", "Production").aliases == ("champion",)
    assert registry.transition_stage(name, "2", "Staging").aliases == ("challenger",)
    assert registry.get_model_metadata(name, "champion").version == "1"
    assert registry.transition_stage(name, "2", "None").aliases == ()
    assert registry.transition_stage(name, "1", "Archived").aliases == ()
    assert registry.transition_stage(name, "1", "Archived").aliases == ()


def test_comparing_what_does_not_exist_is_none(
    registry: ModelRegistry, record: RunRecord, name: str
) -> None:
    register(registry, record, name)
    found = registry.compare_model_versions(
        model_name=name, versions=["1", "7", "nonsense"], metrics=["rmse", "ndcg@10", "accuracy"]
    )
    nothing = {"rmse": None, "ndcg@10": None, "accuracy": None}
    assert found == {
        "1": {"rmse": 0.9, "ndcg@10": 0.25, "accuracy": None},
        "7": nothing,
        "nonsense": nothing,
    }
    assert registry.compare_model_versions("no such model", ["1"], ["rmse"]) == {
        "1": {"rmse": None}
    }


def test_a_model_loads_by_number_alias_and_latest(
    registry: ModelRegistry, record: RunRecord, name: str, model: Recommender
) -> None:
    register(registry, record, name, 2)
    registry.set_alias(name, Alias.CHAMPION, "1")
    history = [np.array([1, 2])]
    for version in ("1", "champion", "latest"):
        loaded = registry.load_model(name, version)
        assert np.array_equal(loaded.score(history), model.score(history))


@pytest.mark.parametrize("version", ["2", "champion", "latest", "0", "-1", "x' OR '1'='1", ""])
def test_unknown_models_and_versions_are_named_errors(
    registry: ModelRegistry, record: RunRecord, version: str
) -> None:
    known = "known"
    if "known" not in {model["name"] for model in registry.list_models()}:
        register(registry, record, known)
    with pytest.raises(ModelVersionNotFoundError):
        registry.load_model("no such model", version)
    if version != "latest":
        with pytest.raises(ModelVersionNotFoundError):
            registry.get_model_metadata(known, version)
    with pytest.raises(ModelVersionNotFoundError):
        registry.get_model_metadata("it's; DROP TABLE", version)


def test_changing_what_does_not_exist_is_a_named_error(
    registry: ModelRegistry, record: RunRecord, name: str
) -> None:
    register(registry, record, name)
    with pytest.raises(ModelVersionNotFoundError):
        registry.set_alias(name, Alias.CHAMPION, "9")
    with pytest.raises(ModelVersionNotFoundError):
        registry.set_alias("no such model", Alias.CHAMPION, "1")
    with pytest.raises(ModelVersionNotFoundError):
        registry.transition_stage(name, "9", "Production")
    with pytest.raises(ModelVersionNotFoundError):
        registry.register_model(name, "0" * 32)


def test_a_damaged_bundle_is_not_loaded(
    registry: ModelRegistry, record: RunRecord, name: str, place: Place
) -> None:
    run_id = registry.log_run("damaged", record)
    registry.register_model(name, run_id)
    card = place.files(run_id) / "bundle" / CARD
    card.write_text(card.read_text()[:-20])
    with pytest.raises(ArtifactCorruptError):
        registry.load_model(name)


def test_another_object_on_the_same_engine_sees_the_same(
    registry: ModelRegistry, record: RunRecord, name: str, place: Place
) -> None:
    register(registry, record, name)
    again = place.open()
    again.ping()
    assert again.get_model_metadata(name).version == "1"


def test_a_tracker_that_cannot_be_opened_is_an_engine_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no SQLite file, and never was one" * 100)
    broken = ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    with pytest.raises(EngineUnavailableError):
        broken.ping()


@pytest.mark.timeout(60)  # by itself the client tries for more than ten minutes
def test_a_server_that_is_not_there_is_told_soon(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        away = ModelRegistry(f"http://127.0.0.1:{probe.getsockname()[1]}", tmp_path)
        with pytest.raises(EngineUnavailableError):
            away.ping()
        with pytest.raises(EngineUnavailableError):
            away.list_models()
