"""The right to be forgotten (fault 80), on a home in which one viewer is everywhere."""

import json
import secrets
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from tests.kafka_broker import Broker

from movie_mlops.automation.handlers import LakeWriter
from movie_mlops.bootstrap import Services, build_services, open_api_services
from movie_mlops.bootstrap.rights import user_erasure
from movie_mlops.cli.main import cli, exit_code
from movie_mlops.data.lake import Lake
from movie_mlops.domain.errors import HomeLockedError
from movie_mlops.domain.experiments import Arm, Experiment
from movie_mlops.domain.interactions import InteractionType, UserId
from movie_mlops.domain.requests import new_request_id
from movie_mlops.domain.versions import MOVIE_RECOMMENDER, Alias
from movie_mlops.events import open_event_log
from movie_mlops.events.base import NewEvent, Place, Position
from movie_mlops.events.erased import ErasedUsers
from movie_mlops.events.redelivery import replay_dead_letters
from movie_mlops.events.schemas import (
    DEAD_LETTERS,
    TOPICS,
    USER_EVENTS,
    DeadLetter,
    Erased,
    UserInteractionEvent,
    decode,
    encode,
)
from movie_mlops.features.engineering.interaction_features import all_interactions
from movie_mlops.models import algorithms
from movie_mlops.models.manifest import read_manifest
from movie_mlops.models.serving.ab_report import encode_definition
from movie_mlops.models.serving.experiment_store import ExperimentStore
from movie_mlops.models.serving.follower import HISTORIES, HistoriesFollower
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import ModelLoader
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.orchestration.base import Json
from movie_mlops.orchestration.lock import run_lock, writer_lock
from movie_mlops.settings import Settings, load_settings

U = "zz-forget-me-7731"
OTHER = "zz-keep-me-1177"
LIKES = 12
TEST = Experiment("ranker-2", (Arm("control", Alias.CHAMPION), Arm("canary", Alias.CHALLENGER)))
SETTINGS = """\
MOVIE_MLOPS_SAMPLE_FILMS=80
MOVIE_MLOPS_SAMPLE_PEOPLE=40
MOVIE_MLOPS_SAMPLE_WATCHES_PER_PERSON=15
MOVIE_MLOPS_PROMOTION_SAMPLES=100
MOVIE_MLOPS_CANDIDATE_ALGORITHMS=["item_neighbours"]
"""


@contextmanager
def opened(home: Path) -> Iterator[Services]:
    with closing(build_services(load_settings(home))) as services:
        yield services


@contextmanager
def api_of(home: Path) -> Iterator[ApiServices]:
    services = open_api_services(load_settings(home))
    services.start()
    try:
        yield services
    finally:
        services.close()


def execute(services: Services, *names: str) -> Json:
    values: Json = {}
    for name in names:
        run = services.runner.execute(services.pipeline(name), values, lambda *_: None)
        values |= run.output()
    return values


def like(user: str, film: int, event_id: str | None = None) -> NewEvent:
    now = datetime.now(UTC)
    return encode(UserInteractionEvent(user, film, InteractionType.LIKE, now), event_id)


def write_lake(services: Services) -> None:
    writer = services.lake_writer()
    while writer.run_once():
        pass


def add_source_rows(lake: Lake, user: str) -> None:
    """As if the source itself knew this person."""
    people, acts = lake.read("people"), lake.read("interactions")
    person = people.head(1).with_columns(user_id=pl.lit(user))
    pl.concat([people, person]).write_parquet(lake.path("people"))
    mine = acts.head(5).with_columns(
        user_id=pl.lit(user), line=pl.int_range(5, dtype=pl.Int64) + 1_000_000
    )
    pl.concat([acts, mine]).sort("timestamp", "line").write_parquet(lake.path("interactions"))


def add_quarantined(lake: Lake, user: str) -> None:
    rows = [json.dumps({"user_id": name, "movie_id": 1, "rating": 99}) for name in (user, OTHER)]
    target = lake.root / "quarantine/interactions/0123456789abcdef.parquet"
    target.parent.mkdir(parents=True, exist_ok=True)
    reason = pl.lit("rating outside 0.5-5")
    pl.DataFrame({"row": rows}).with_columns(reason=reason).write_parquet(target)


def show(home: Path, *users: str) -> list[str]:
    """Lists of a running API, and that their viewers are in a test."""
    ids = []
    with api_of(home) as api:
        for user in users:
            ids.append(new_request_id())
            api.audience.show(ids[-1], api.recommender.recommend(UserId(user), 5), None, 5)
        api.audience.exposures.flush()
        tests = ExperimentStore(api.audience.store)
        tests.register(TEST.name, encode_definition(TEST))
        with api.audience.store.changing() as connection:
            connection.executemany(
                "INSERT INTO subjects (experiment, subject, arm, first_ms) VALUES (?, ?, ?, 1)",
                [(TEST.name, TEST.subject(user), "control") for user in users],
            )
    return ids


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that has U in every store, and OTHER beside; tests work on a copy."""
    home = tmp_path_factory.mktemp("home")
    (home / ".env").write_text(SETTINGS)
    with opened(home) as services:
        execute(services, "data_collection")
        add_source_rows(services.lake, U)
        add_source_rows(services.lake, OTHER)
        add_quarantined(services.lake, U)
        acts = [like(who, 1 + n, f"{who}-{n}") for who in (U, OTHER) for n in range(LIKES)]
        services.log.publish(USER_EVENTS, acts)
        poison = [NewEvent(f"poison-{who}", who, "like.v9", who.encode()) for who in (U, OTHER)]
        services.log.publish(USER_EVENTS, poison)
        write_lake(services)
        assert services.log.end_positions([DEAD_LETTERS])[Place(DEAD_LETTERS, 0)] == 2
        execute(services, "training", "rollout", "feature_engineering", "batch_prediction")
        services.snapshots.create_data_snapshot("by-hand")
    show(home, U, OTHER)
    return home


@pytest.fixture
def home(everywhere: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(everywhere, tmp_path / "home"))


def files_with(home: Path, text: str) -> list[str]:
    """Files whose bytes, or the rows of those that are Parquet, hold the text."""
    found = []
    for path in sorted(path for path in home.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if content[:4] == b"PAR1":
            frame = pl.read_parquet(content)
            texts = frame.select(pl.col(pl.String).str.contains(text, literal=True).any())
            if any(texts.row(0)) if texts.width else False:
                found.append(str(path.relative_to(home)))
        if text.encode() in content:
            found.append(str(path.relative_to(home)))
    return sorted(set(found))


def erase(home: Path, user: str = U, report: Callable[[str], object] = str) -> tuple[Any, Path]:
    with opened(home) as services:
        return user_erasure(services).erase(user, report)


def comes_true(condition: Callable[[], bool], within_seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + within_seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_80_no_file_of_the_home_holds_an_erased_viewer(home: Path) -> None:
    """Fault 80: every store had the viewer, none has; others keep theirs."""
    before = files_with(home, U)
    for store in ("events.db", "online.db", "exposures.db", "var/work", "var/dvc", "histories",
                  "data/features", "data/predictions", "data/quarantine", "events/user-events",
                  "people", "processed/interactions"):  # fmt: skip
        assert any(store in path for path in before), store
    ran = CliRunner().invoke(cli, ["users", "erase", U, "--home", str(home), "--yes", "--json"])
    assert ran.exit_code == 0, ran.output
    assert files_with(home, U) == []
    for store in ("events.db", "online.db", "exposures.db", "var/work", "var/dvc", "histories",
                  "data/features", "data/predictions", "data/quarantine"):  # fmt: skip
        assert any(store in path for path in files_with(home, OTHER)), store
    receipt = json.loads(ran.stdout.splitlines()[-1])
    assert U not in ran.stdout
    assert receipt["removed"] == {
        "log user-events": LIKES + 1,
        "log dead-letters": 1,
        "lake batch_recommendations": 50,
        "lake user_features": receipt["removed"]["lake user_features"],
        "lake interactions": 5,
        "lake people": 1,
        "lake events": LIKES,
        "lake quarantine": 1,
        "snapshots": 2 * (5 + 1 + LIKES),
        "online features": receipt["removed"]["online features"],
        "work": receipt["removed"]["work"],
        "histories": receipt["removed"]["histories"],
        "batch lists": 1,
        "exposures": 1,
        "test subjects": 1,
    }
    assert all(rows > 0 for rows in receipt["removed"].values())
    assert receipt["models"] == [f"{MOVIE_RECOMMENDER} v1"]
    assert "by-hand" in receipt["snapshots"]
    [kept] = (home / "var/receipts").glob("*.json")
    assert json.loads(kept.read_text()) == receipt
    [folder] = (home / "var/serving/batch_lists").glob("*")
    with opened(home) as services:  # OTHER is in, U is not
        assert len(np.load(folder / "keys.npy")) == services.lake.read("people").height


def test_positions_stay_and_nothing_comes_back_by_a_replay(home: Path, tmp_path: Path) -> None:
    with opened(home) as services:
        ends = services.log.end_positions(list(TOPICS))
    erase(home)
    with opened(home) as services:
        assert services.log.end_positions(list(TOPICS)) == ends
        stones = 0
        for place, end in ends.items():
            records = services.log.read(place, 0, 10_000)
            assert [record.position.offset for record in records] == list(range(end))
            stones += sum(isinstance(decode(r), Erased) for r in records if r.type != "like.v9")
        assert stones == LIKES + 2
        fresh = LakeWriter(open_log(services.settings), Lake(tmp_path / "lake"))
        services.log.commit("worker", {place: 0 for place in ends if place.topic == USER_EVENTS})
        while fresh.run_once():
            pass
        again = Lake(tmp_path / "lake").events(USER_EVENTS)
        assert set(again["user_id"]) == {OTHER}
        assert services.log.end_positions([DEAD_LETTERS])[Place(DEAD_LETTERS, 0)] == 2
        assert replay_dead_letters(services.log, erased=services.erased).letters == 1
        histories = Histories(200)
        loader = ModelLoader(tmp_path, algorithms.load)
        HistoriesFollower(histories, services.log, loader, tmp_path, "fresh").catch_up()
        assert not len(histories.of(U).films)
        assert len(histories.of(OTHER).films) == LIKES


def open_log(settings: Settings) -> Any:
    return open_event_log(settings.events_url, settings.home, settings.event_log_max_bytes)


def test_a_running_api_forgets_and_who_comes_back_is_new(home: Path) -> None:
    with api_of(home) as api:
        assert len(api.histories.of(U).films) >= LIKES
        erase(home)
        assert comes_true(lambda: not len(api.histories.of(U).hidden))
        assert len(api.histories.of(OTHER).films) >= LIKES
        assert api.recommender.recommend(UserId(U), 5).path != "personal"
        api.log.publish(USER_EVENTS, [like(U, 7)])
        assert comes_true(lambda: api.histories.of(U).films.tolist() == [7])
        champion = read_manifest(home / "var/serving")[HISTORIES].champion
        assert champion is not None
    with api_of(home) as api:
        assert api.histories.of(U).films.tolist() == [7]
    with opened(home) as services:
        write_lake(services)
        rows = all_interactions(services.lake).filter(pl.col("user_id") == U)
        assert rows["movie_id"].to_list() == [7]
    receipt, _ = erase(home)  # once more: only what is new goes
    assert receipt.removed["log user-events"] == 1
    assert files_with(home, U) == []


def test_the_next_model_is_trained_without_and_a_source_does_not_bring_anybody_back(
    home: Path,
) -> None:
    with opened(home) as services:
        erase(home)
        after = execute(services, "training")
        assert after["version"] == "2"
        with services.snapshots.opened(after["snapshot"]) as frozen:
            assert U not in set(all_interactions(frozen)["user_id"])
        work = services.work / after["snapshot"] / "interactions.parquet"
        users = set(pl.read_parquet(work)["user_id"])
        assert U not in users
        assert OTHER in users
        named = services.lake.read("people").head(1).get_column("user_id").item()
        erase(home, named)
        execute(services, "data_collection")  # the sample makes the same people again
        assert named not in set(services.lake.read("people")["user_id"])
        assert named not in set(services.lake.read("interactions")["user_id"])
        assert services.lake.read("people").height == services.settings.sample_people - 1


def test_a_rewritten_snapshot_is_whole_marked_and_comes_back(home: Path) -> None:
    erase(home)
    with opened(home) as services:
        found = services.snapshots.get("by-hand")
        assert found.erased_at
        services.snapshots.restore_data_version("by-hand")  # DVC checks every object
        assert U not in set(all_interactions(services.lake)["user_id"])
        write_lake(services)
        assert U not in set(all_interactions(services.lake)["user_id"])
        blobs = home / "var/dvc/files/md5"
        named = {
            digest
            for each in services.snapshots.list_snapshots()
            for digest in (each.tree, *each.files.values())
        }
        assert {path.parent.name + path.name for path in blobs.glob("*/*")} == named


def test_killed_between_any_two_steps_it_has_the_same_end(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path(shutil.copytree(home, tmp_path / "whole"))
    expected, _ = erase(whole)
    with opened(home) as services:
        steps = [step.__name__ for step in user_erasure(services).steps]
    for killed_before in steps:

        def report(step: str, killed_before: str = killed_before) -> None:
            if step == killed_before:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            erase(home, report=report)
    with monkeypatch.context() as patch:
        patch.setattr(ErasedUsers, "finish", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            erase(home)
    receipt, path = erase(home)
    assert files_with(home, U) == []
    assert receipt.removed == expected.removed
    assert receipt.models == expected.models
    assert len(receipt.snapshots) == len(expected.snapshots)
    assert list(path.parent.iterdir()) == [path]
    with opened(home) as one, opened(whole) as other:
        assert one.lake.read("interactions").equals(other.lake.read("interactions"))
        trees = [each.tree for each in one.snapshots.list_snapshots()]
        assert trees == [each.tree for each in other.snapshots.list_snapshots()]
    with api_of(home) as api:
        assert not len(api.histories.of(U).hidden)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


_KILLED = """
import os, sys
from pathlib import Path
from movie_mlops.bootstrap import build_services
from movie_mlops.bootstrap.rights import user_erasure
from movie_mlops.data.versions import DataVersionManager
from movie_mlops.pipelines import erasure
from movie_mlops.settings import load_settings

home, user, at = sys.argv[1:]

def kill(*arguments):
    os.kill(os.getpid(), 9)

if at == "snapshot":
    DataVersionManager._write_tag = kill
else:
    erasure.replace_all = kill
user_erasure(build_services(load_settings(Path(home)))).erase(user, str)
"""


def test_killed_within_a_step_it_is_finished_by_running_it_again(home: Path) -> None:
    """SIGKILL when objects are written but no tag, bundles but no manifest."""
    for at in ("snapshot", "manifest"):
        command = [sys.executable, "-c", _KILLED, str(home), U, at]
        assert subprocess.run(command, check=False).returncode == -9
        with api_of(home) as api:  # what is left is whole: it serves
            assert len(api.histories.of(OTHER).films) >= LIKES
    receipt, path = erase(home)
    assert files_with(home, U) == []
    assert receipt.models == [f"{MOVIE_RECOMMENDER} v1"]
    assert list(path.parent.iterdir()) == [path]
    assert len(list((home / "var/serving/histories").iterdir())) == 1
    with opened(home) as services:
        services.snapshots.restore_data_version("by-hand")
        assert OTHER in set(services.lake.read("people")["user_id"])


def test_it_refuses_while_a_pipeline_runs_and_without_a_yes(home: Path) -> None:
    command = ["users", "erase", U, "--home", str(home)]
    with writer_lock(run_lock(home), "a pipeline"):
        ran = CliRunner().invoke(cli, [*command, "--yes"])
        assert isinstance(ran.exception, HomeLockedError)
        assert exit_code(ran.exception) == 4
    assert CliRunner().invoke(cli, command, input="n\n").exit_code == 1
    assert files_with(home, U)
    assert not (home / "var/erased").exists()


def test_deleted_bytes_do_not_stay_in_a_log_that_is_open(home: Path) -> None:
    """A worker and an API process have the file open, with a write-ahead log of their own."""
    with opened(home) as services:
        services.log.publish(USER_EVENTS, [like(OTHER, n) for n in range(1, 60)])
        assert (home / "var/events.db-wal").stat().st_size > 0
        erase(home)
        assert files_with(home, U) == []
        services.log.publish(USER_EVENTS, [like(OTHER, 60)])
        with closing(sqlite3.connect(home / "var/events.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_on_kafka_readers_leave_an_erased_viewer_out(kafka: Broker, tmp_path: Path) -> None:
    """The records stay until the broker's retention; nobody of this home takes them again."""
    url = f"kafka://{kafka.servers}/{secrets.token_hex(6)}."
    with closing(open_event_log(url, tmp_path, 1_000_000)) as log:
        acts = [like(who, film) for who in (U, OTHER) for film in (1, 2, 3)]
        log.publish(USER_EVENTS, acts)
        letter = DeadLetter(f"{USER_EVENTS}:0:0", "worker", "e", U, "like.v9", "{}", "unknown")
        log.publish(DEAD_LETTERS, [encode(letter)])
        erased = ErasedUsers(tmp_path / "erased")
        erased.begin(U, log.end_positions(list(TOPICS)) | {Place(USER_EVENTS, 0): 1})
        log.publish(USER_EVENTS, [like(U, 9)])
        histories = Histories(200)
        loader = ModelLoader(tmp_path, algorithms.load)
        follower = HistoriesFollower(histories, log, loader, tmp_path, "replica", erased)
        follower.catch_up()
        assert histories.of(U).films.tolist() == [9]
        assert histories.of(OTHER).films.tolist() == [1, 2, 3]
        writer, lake = LakeWriter(log, Lake(tmp_path / "lake"), erased), Lake(tmp_path / "lake")
        assert comes_true(lambda: writer.run_once() == 0 and len(lake.events(USER_EVENTS)) == 4)
        assert replay_dead_letters(log, erased=erased).letters == 0


def test_an_api_key_of_the_viewer_is_named_in_the_receipt(home: Path) -> None:
    key = {"name": "theirs", "sha256": "0" * 64, "subject": U}
    with (home / ".env").open("a") as stream:
        stream.write(f"MOVIE_MLOPS_API_KEYS={json.dumps([key])}\n")
    receipt, _ = erase(home)
    assert any("API key theirs" in text for text in receipt.remains)
    assert files_with(home, U) == [".env"]


def test_the_list_names_nobody_and_holds_after_a_restart(tmp_path: Path) -> None:
    place = Place(USER_EVENTS, 1)
    erased, watching = ErasedUsers(tmp_path / "e"), ErasedUsers(tmp_path / "e")
    assert not erased.hides(U, Position(*place, 0))
    begun = erased.begin(U, {place: 5})
    assert erased.begin(U, {place: 9}) == begun  # not finished: the same erasure goes on
    assert not watching.hides(U, Position(*place, 0))
    watching.look()
    for each in (erased, watching, ErasedUsers(tmp_path / "e")):
        assert [each.hides(U, Position(*place, n)) for n in (0, 4, 5)] == [True, True, False]
        assert not each.hides(U + "x", Position(*place, 0))
    erased.finish(begun)
    again = erased.begin(U, {place: 9})
    assert again.ends == {"user-events:1": 9}
    assert datetime.fromisoformat(again.at) - datetime.now(UTC) < timedelta(seconds=60)
    assert files_with(tmp_path, U) == []
    assert (tmp_path / "e/key").stat().st_mode & 0o077 == 0
    assert ErasedUsers(tmp_path / "other").name_of(U) != erased.name_of(U)
