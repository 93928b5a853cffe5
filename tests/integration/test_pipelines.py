"""The pipelines on a small sample home: from nothing to champions, and on with events."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from movie_mlops.automation.handlers import GROUP
from movie_mlops.bootstrap import Services, build_services, open_api_services
from movie_mlops.cli.main import cli
from movie_mlops.data.tables import TABLES
from movie_mlops.domain.errors import EngineUnavailableError, StepFailedError, TrainingDataError
from movie_mlops.domain.interactions import Interaction, InteractionType, UserId
from movie_mlops.domain.versions import MOVIE_PREDICTOR, MOVIE_RECOMMENDER
from movie_mlops.events.schemas import (
    MODEL_LIFECYCLE,
    RECOMMENDATIONS,
    USER_EVENTS,
    LoopTransition,
    ModelPromoted,
    UserInteractionEvent,
    decode,
    encode,
)
from movie_mlops.features.engineering.interaction_features import all_interactions
from movie_mlops.models import manifest
from movie_mlops.models.bundle import load_bundle
from movie_mlops.models.manifest import read_manifest
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.orchestration.base import Json, PipelineRun
from movie_mlops.orchestration.shapes import SHAPES
from movie_mlops.pipelines import batch_prediction
from movie_mlops.settings import load_settings

CHAIN = (
    "data_collection", "training", "rollout", "rating_training", "rollout", "feature_engineering",
)  # fmt: skip
SETTINGS = """\
MOVIE_MLOPS_SAMPLE_FILMS=120
MOVIE_MLOPS_SAMPLE_PEOPLE=80
MOVIE_MLOPS_SAMPLE_WATCHES_PER_PERSON=25
MOVIE_MLOPS_PROMOTION_SAMPLES=200
"""


def no_report(what: str, done: int, total: int | None) -> None:
    pass


@contextmanager
def opened(home: Path) -> Iterator[Services]:
    with closing(build_services(load_settings(home))) as services:
        yield services


def execute(services: Services, *names: str) -> list[PipelineRun]:
    runs: list[PipelineRun] = []
    values: Json = {}
    for name in names:
        runs.append(services.runner.execute(services.pipeline(name), values, no_report))
        values |= runs[-1].output()
    return runs


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home on which the whole chain ran once; tests that change it work on a copy."""
    home = tmp_path_factory.mktemp("home")
    (home / ".env").write_text(SETTINGS)
    with opened(home) as services:
        execute(services, *CHAIN)
    return home


@pytest.fixture
def home(furnished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(furnished, tmp_path / "home"))


def publish(services: Services, *events: tuple[str, str, int, InteractionType]) -> None:
    """`(event id, user, film, type)` each."""
    new = [
        encode(
            UserInteractionEvent(
                user_id=user, movie_id=film, interaction_type=kind, timestamp=datetime.now(UTC)
            ),
            event_id,
        )
        for event_id, user, film, kind in events
    ]
    services.log.publish(USER_EVENTS, new)


def write_lake(services: Services) -> None:
    writer = services.lake_writer()
    while writer.run_once():
        pass


def without_times(card: dict[str, Any]) -> dict[str, Any]:
    """The card but for what a clock or the process measured."""
    kept = {key: value for key, value in card.items() if key not in ("snapshot", "metrics")}
    kept["metrics"] = {
        key: value
        for key, value in card["metrics"].items()
        if not key.endswith(("_seconds", "_mb", "_milliseconds"))
    }
    return kept


def test_data_collection_leaves_what_the_contract_promises(furnished: Path) -> None:
    with opened(furnished) as services:
        for name in TABLES:
            assert len(services.lake.read(name)) > 0, name
        assert len(services.lake.read("movies")) == 120
        assert services.lake.read("interactions")["user_id"].n_unique() == 80
    page = json.loads((furnished / "data/raw/tmdb/popular.json").read_text())
    assert {"id", "title", "vote_average", "popularity"} <= page["movies"][0].keys()
    log = pl.read_csv(furnished / "data/processed/watch_log.csv")
    assert log.columns == ["user_id", "content_id", "watch_seconds", "rating", "popularity"]
    assert len(log) == len(pl.read_parquet(furnished / "data/processed/watch_log.parquet"))


def test_every_step_of_the_shapes_ran_and_was_recorded(furnished: Path) -> None:
    with opened(furnished) as services:
        records = services.runner.runs()
    assert sorted(record.pipeline for record in records) == sorted(CHAIN)
    for record in records:
        assert record.state == "succeeded"
        assert tuple(step.name for step in record.steps) == SHAPES[record.pipeline].steps
        assert all(step.state == "succeeded" and step.seconds >= 0 for step in record.steps)
        assert all(step.output["note"] for step in record.steps)


def test_both_models_have_version_1_with_the_snapshot_they_name(furnished: Path) -> None:
    with opened(furnished) as services:
        snapshots = {found.tag for found in services.snapshots.list_snapshots()}
        served = read_manifest(services.serving)
        for model in (MOVIE_RECOMMENDER, MOVIE_PREDICTOR):
            version = services.registry.get_model_metadata(model, "champion")
            assert (version.version, version.snapshot in snapshots) == ("1", True)
            champion = served[model].champion
            assert champion is not None
            assert served[model].challenger is None
            assert (champion.version, champion.snapshot) == ("1", version.snapshot)
            arrays, card = load_bundle(services.serving / champion.path, champion.card_sha256)
            assert arrays
            assert card["snapshot"] == version.snapshot
            assert card["gate"]["passed"] is True
            loaded = services.registry.load_model(model, "champion")
            assert loaded.artifact()[0].keys() == arrays.keys()
        assert {"ndcg_at_10", "popularity_ndcg_at_10"} <= services.registry.get_model_metadata(
            MOVIE_RECOMMENDER, "1"
        ).metrics.keys()
        rating = services.registry.get_model_metadata(MOVIE_PREDICTOR, "1").metrics
        assert {"rmse", "mae", "r2", "baseline_rmse"} <= rating.keys()


def test_promotions_are_events(furnished: Path) -> None:
    with opened(furnished) as services:
        records = services.log.poll("reader", (MODEL_LIFECYCLE,), 10)
        history = services.loop_store.history()
    said = [decode(record) for record in records]
    assert [
        (each.model_name, each.version) for each in said if isinstance(each, ModelPromoted)
    ] == [
        (MOVIE_RECOMMENDER, "1"),
        (MOVIE_PREDICTOR, "1"),
    ]
    moves = [each for each in said if isinstance(each, LoopTransition)]
    assert [(each.model_name, each.before, each.after) for each in moves] == [
        (MOVIE_RECOMMENDER, "challenger", "champion"),
        (MOVIE_PREDICTOR, "challenger", "champion"),
    ]
    assert [each.event for each in reversed(history)] == moves


def test_the_features_of_film_1_and_person_1_are_online(furnished: Path) -> None:
    with opened(furnished) as services:
        film = services.features.get_entity("movie", 1, ["movie_features:rating"])
        person = services.features.get_entity(
            "user", "1", ["user_features:age", "user_features:genre_preference"]
        )
    assert film["rating"] is not None
    assert person["age"] is not None
    assert person["genre_preference"]


def test_a_challenger_that_is_no_better_is_refused(home: Path) -> None:
    with opened(home) as services:
        first = read_manifest(services.serving)
        runs = execute(services, "training", "rollout", "rating_training", "rollout")
        served = read_manifest(services.serving)
        for model in (MOVIE_RECOMMENDER, MOVIE_PREDICTOR):
            assert served[model].champion == first[model].champion
            assert served[model].challenger is not None
            assert services.registry.get_model_metadata(model, "champion").version == "1"
            assert services.registry.get_model_metadata(model, "challenger").version == "2"
    assert "refused" in runs[1].steps[0].output["note"]
    assert "refused" in runs[3].steps[1].output["note"]
    assert runs[0].output()["snapshot"] == first[MOVIE_RECOMMENDER].champion.snapshot  # type: ignore[union-attr]


def test_a_champion_is_not_judged_on_what_it_has_seen(home: Path) -> None:
    """The served model was fitted on all rows; its twin, which was not, is the rival."""
    with opened(home) as services:
        [run] = execute(services, "training")
        evaluation = next(step for step in run.steps if "gate" in step.output)
        board = evaluation.output["board"]["models"]
        assert board["champion v1"] == board[run.output()["algorithm"]]  # the same recipe and rows
        assert evaluation.output["gate"]["difference"]["value"] == 0


def test_of_several_candidates_the_one_that_earns_its_place_is_trained(home: Path) -> None:
    with (home / ".env").open("a") as stream:
        stream.write('MOVIE_MLOPS_CANDIDATE_ALGORITHMS=["popularity","item_neighbours"]\n')
        stream.write("MOVIE_MLOPS_GATE_BUNDLE_MB=0.004\n")  # popularity's few arrays only
    with opened(home) as services:
        [run] = execute(services, "training")
        output = run.output()
        assert output["algorithm"] == "popularity"
        assert "over its limits: the bundle" in output["selection"]["item_neighbours"]
        version = services.registry.get_model_metadata(MOVIE_RECOMMENDER, "challenger")
        assert version.algorithm == "popularity"


def test_a_candidate_over_its_limits_is_refused_by_the_gate(home: Path) -> None:
    with (home / ".env").open("a") as stream:
        stream.write("MOVIE_MLOPS_GATE_BUNDLE_MB=0.004\n")
    with opened(home) as services:
        runs = execute(services, "training", "rollout")
        assert not runs[0].output()["gate"]["passed"]
    assert "over its limits: the bundle" in runs[1].steps[0].output["note"]


def test_tuning_is_logged_and_used_by_the_next_training(home: Path) -> None:
    with opened(home) as services:
        found = services.tuning().run("sequence_linear", 3, None, no_report)
        assert len(found["tried_now"]) == 3
        assert found["best"]["ndcg@10"] >= found["tried_now"][0]["ndcg@10"]
        names = {one["name"] for one in services.registry.list_experiments()}
        assert "tuning_sequence_linear" in names
    kept = json.loads(Path(found["file"]).read_text())
    kept["parameters"]["ridge"] = [321.0, 4321.0]
    Path(found["file"]).write_text(json.dumps(kept))
    with opened(home) as services:
        execute(services, "training")
        challenger = read_manifest(services.serving)[MOVIE_RECOMMENDER].challenger
        assert challenger is not None
        _, card = load_bundle(services.serving / challenger.path)
    assert card["parameters"]["ridge"] == [321.0, 4321.0]


def test_promote_and_roll_back_move_manifest_and_registry(home: Path) -> None:
    with opened(home) as services:
        execute(services, "training")
        services.rollout.promote(MOVIE_RECOMMENDER, "2")
        version = services.registry.get_model_metadata(MOVIE_RECOMMENDER, "champion")
        assert version.version == "2"
        assert "challenger" not in version.aliases
        start = time.perf_counter()
        manifest.roll_back(services.serving, MOVIE_RECOMMENDER)
        assert time.perf_counter() - start < 1.0
        services.rollout.promote(MOVIE_RECOMMENDER, "2")
        assert services.rollout.roll_back(MOVIE_RECOMMENDER) == "1"
        assert services.registry.get_model_metadata(MOVIE_RECOMMENDER, "champion").version == "1"
        served = read_manifest(services.serving)[MOVIE_RECOMMENDER]
        assert served.champion is not None
        assert served.champion.version == "1"


def test_a_promotion_killed_before_the_registry_is_finished_by_the_next_rollout(
    home: Path,
) -> None:
    """Fault 43."""
    with opened(home) as services:
        execute(services, "training")
        challenger = read_manifest(services.serving)[MOVIE_RECOMMENDER].challenger
        assert challenger is not None
        manifest.point(services.serving, MOVIE_RECOMMENDER, manifest.Alias.CHAMPION, challenger)
        execute(services, "rollout")
        assert services.registry.get_model_metadata(MOVIE_RECOMMENDER, "champion").version == "2"


def test_two_promotions_at_once_leave_manifest_and_registry_agreed(home: Path) -> None:
    """Fault 42: whoever was last, both say the same."""
    with opened(home) as services:
        execute(services, "training")

    def promote(version: str) -> None:
        with opened(home) as services:
            for _ in range(8):
                services.rollout.promote(MOVIE_RECOMMENDER, version)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(promote, version) for version in ("1", "2")]:
            done.result()
    with opened(home) as services:
        champion = read_manifest(services.serving)[MOVIE_RECOMMENDER].champion
        assert champion is not None
        aliased = services.registry.get_model_metadata(MOVIE_RECOMMENDER, "champion")
        assert aliased.version == champion.version
        load_bundle(services.serving / champion.path, champion.card_sha256)


def test_a_registry_that_is_away_stops_neither_serving_nor_the_next_rollout(home: Path) -> None:
    """Fault 41: the manifest moves first; the registry is told when it answers again."""
    database = home / "var/mlflow.db"
    with opened(home) as services:
        execute(services, "training")
    kept = database.read_bytes()
    database.write_bytes(b"no database at all" * 100)
    with opened(home) as services:
        with pytest.raises(EngineUnavailableError):
            services.rollout.promote(MOVIE_RECOMMENDER, "2")
        champion = read_manifest(services.serving)[MOVIE_RECOMMENDER].champion
        assert champion is not None
        assert champion.version == "2"
    database.write_bytes(kept)
    with opened(home) as services:
        execute(services, "rollout")
        assert services.registry.get_model_metadata(MOVIE_RECOMMENDER, "champion").version == "2"


@pytest.mark.parametrize("people", [2, 4])
def test_too_few_people_are_a_named_error_and_nothing_is_served(
    tmp_path: Path, people: int
) -> None:
    """Fault 45."""
    settings = load_settings(tmp_path, sample_films=60, sample_people=people)
    with closing(build_services(settings)) as services:
        execute(services, "data_collection")
        with pytest.raises(StepFailedError, match="people") as failed:
            execute(services, "training")
        assert isinstance(failed.value.__cause__, TrainingDataError)
        assert read_manifest(services.serving) == {}
        assert services.runner.runs()[0].state == "failed"


def test_events_make_a_new_snapshot_and_an_undo_takes_one_back(home: Path) -> None:
    like, undo = InteractionType.LIKE, InteractionType.UNDO
    with opened(home) as services:
        before = len(all_interactions(services.lake))
        publish(services, ("e1", "new", 1, like), ("e2", "new", 2, like), ("e3", "1", 3, like))
        services.log.publish(
            USER_EVENTS,
            [
                encode(
                    UserInteractionEvent(
                        user_id="new",
                        movie_id=0,
                        interaction_type=undo,
                        timestamp=datetime.now(UTC),
                        target_event_id="e2",
                    ),
                    "e4",
                )
            ],
        )
        write_lake(services)
        rows = all_interactions(services.lake)
        assert len(rows) == before + 2
        assert rows.filter(pl.col("user_id") == "new")["movie_id"].to_list() == [1]
        old = read_manifest(services.serving)[MOVIE_RECOMMENDER].champion
        (run,) = execute(services, "training")
        assert old is not None
        assert run.output()["snapshot"] != old.snapshot
        ends = {
            place.partition: end
            for place, end in services.log.end_positions([USER_EVENTS]).items()
            if end
        }
        assert run.output()["log_positions"] == ends
        _, card = load_bundle(services.serving / MOVIE_RECOMMENDER / run.output()["version"])
        assert card["log_positions"] == {str(part): end for part, end in ends.items()}
        histories = read_manifest(services.serving)["histories"].champion
        assert histories is not None
        assert histories.version == run.output()["version"]


_KILLED = """
import os, sys
from pathlib import Path
from movie_mlops.bootstrap import build_services
from movie_mlops.settings import load_settings
services = build_services(load_settings(Path(sys.argv[1])))
services.log.commit = lambda *arguments: os._exit(9)
services.lake_writer().run_once()
"""


def test_a_writer_killed_between_file_and_commit_counts_every_event_once(home: Path) -> None:
    events = [(f"e{number}", f"u{number % 7}", 1 + number, InteractionType.LIKE)
              for number in range(40)]  # fmt: skip
    with opened(home) as services:
        publish(services, *events[:30])
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(home)], check=False)
    assert killed.returncode == 9
    with opened(home) as services:
        assert sum(services.log.committed(GROUP, (USER_EVENTS,)).values()) == 0
        assert len(services.lake.events(USER_EVENTS)) == 30
        publish(services, *events[30:])
        write_lake(services)
        found = services.lake.events(USER_EVENTS)
        assert sorted(found["event_id"].to_list()) == sorted(event[0] for event in events)
        assert services.log.lag(GROUP, (USER_EVENTS,)) == {USER_EVENTS: 0}


def test_an_older_snapshot_comes_back_and_later_events_are_applied_again(home: Path) -> None:
    like = InteractionType.LIKE
    with opened(home) as services:
        publish(services, ("e1", "new", 1, like))
        write_lake(services)
        services.snapshots.create_data_snapshot("one-event")
        publish(services, *((f"l{number}", "new", 2 + number, like) for number in range(5)))
        write_lake(services)
        rows = all_interactions(services.lake)
        saved = services.snapshots.restore_data_version("one-event")
        assert len(services.lake.events(USER_EVENTS)) == 1
        assert services.log.lag(GROUP, (USER_EVENTS,)) == {USER_EVENTS: 5}
        assert saved in {found.tag for found in services.snapshots.list_snapshots()}
    with opened(home) as services:
        write_lake(services)
        assert all_interactions(services.lake).drop("line").equals(rows.drop("line"))


def test_steps_one_by_one_make_the_same_bundle_as_a_run(home: Path, tmp_path: Path) -> None:
    other = shutil.copytree(home, tmp_path / "other")
    with opened(home) as services:
        execute(services, "training")
        arrays, card = load_bundle(services.serving / MOVIE_RECOMMENDER / "2")
    values: Json = {}
    for name in SHAPES["training"].steps:
        arguments = ["step", "training", name, "--home", str(other), "--json", json.dumps(values)]
        done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert done.exit_code == 0
        values |= json.loads(done.stdout.splitlines()[-1])
    assert values["version"] == "2"
    stepwise, its_card = load_bundle(other / "var/serving" / MOVIE_RECOMMENDER / "2")
    assert without_times(its_card) == without_times(card)
    assert stepwise.keys() == arrays.keys()
    assert all(np.array_equal(stepwise[name], arrays[name]) for name in arrays)


def test_the_same_seed_makes_the_same_bytes(furnished: Path, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(SETTINGS)
    with opened(tmp_path) as services:
        execute(services, "data_collection", "training")
    folder = f"var/serving/{MOVIE_RECOMMENDER}/1"
    arrays = {path.name: path.read_bytes() for path in (furnished / folder).glob("*.npy")}
    assert arrays == {path.name: path.read_bytes() for path in (tmp_path / folder).glob("*.npy")}
    cards = [
        json.loads((home / folder / "card.json").read_text()) for home in (furnished, tmp_path)
    ]
    assert without_times(cards[0]) == without_times(cards[1])


def test_snapshots_are_whole_while_events_are_written(home: Path) -> None:
    """A writer merges event files all the time; a snapshot has every file that it lists."""
    stop = threading.Event()

    def write() -> None:
        writer, number = services.lake_writer(), 0
        while not stop.is_set():
            publish(services, (f"s{number}", f"u{number % 9}", 1, InteractionType.LIKE))
            writer.run_once()
            number += 1

    with opened(home) as services:
        writing = threading.Thread(target=write)
        writing.start()
        try:
            tags, counts = set(), [0]
            while len(tags) < 15:
                tags.add(services.snapshots.current_or_new())
                counts += [len(services.lake.events(USER_EVENTS)) for _ in range(20)]
        finally:
            stop.set()
            writing.join()
        assert counts == sorted(counts)
        blobs = home / "var/dvc/files/md5"
        for tag in tags:
            for name, digest in services.snapshots.get(tag).files.items():
                assert not name.endswith(".partial")
                assert (blobs / digest[:2] / digest[2:]).exists(), (tag, name)


def test_batch_lists_are_those_of_serving_and_an_interrupted_run_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_prediction, "USERS_PER_PART", 20)
    begun: list[int] = []

    def interrupted(what: str, done: int, total: int | None) -> None:
        if what == "making lists":
            begun.append(done)
            if len(begun) == 3:
                raise KeyboardInterrupt

    with opened(home) as services:
        pipeline = services.pipeline("batch_prediction")
        with pytest.raises(KeyboardInterrupt):
            services.runner.execute(pipeline, {}, interrupted)
        run = services.runner.execute(pipeline, {}, no_report)
        assert "2 parts of an earlier run" in run.steps[1].output["note"]
        again = services.runner.execute(pipeline, {}, no_report)
        told = [decode(each) for each in services.log.poll("r", (RECOMMENDATIONS,), 9)]
    assert again.steps[1].output["users"] == told[0].users > 60
    assert told[0].model_version == "1"
    table = pl.read_parquet(run.output()["table"])
    assert table["user_id"].n_unique() == told[0].users

    with api_of(home) as api:
        for user in table["user_id"].unique().sort()[:3].to_list():
            online = api.recommender.recommend(user, 50)
            assert online.path == "personal"
            mine = table.filter(pl.col("user_id") == user).sort("rank")
            assert mine["movie_id"].to_list() == [item.movie_id for item in online.items]
    champion = read_manifest(home / "var/serving")[MOVIE_RECOMMENDER].champion
    assert champion is not None
    (home / "var/serving" / champion.path / "card.json").write_text("{}")
    with api_of(home) as api:
        fallback = api.recommender.recommend(user, 10)
        assert (fallback.path, fallback.model_version) == ("batch", "1")
        assert [item.movie_id for item in fallback.items] == mine["movie_id"].to_list()[:10]
        seen = fallback.items[0].movie_id
        like = Interaction("e1", user, seen, InteractionType.LIKE, datetime.now(UTC))
        api.histories.apply(like)
        assert seen not in {item.movie_id for item in api.recommender.recommend(user, 10).items}
        assert api.recommender.recommend(UserId("nobody"), 10).path == "static"


@contextmanager
def api_of(home: Path) -> Iterator[ApiServices]:
    services = open_api_services(load_settings(home))
    services.start()
    try:
        yield services
    finally:
        services.close()
