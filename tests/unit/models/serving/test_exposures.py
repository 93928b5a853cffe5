"""The log of what was shown: noted, written, found, bounded; shared by processes."""

import os
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.domain.experiments import Arm, Experiment
from movie_mlops.domain.requests import new_request_id
from movie_mlops.models.serving import exposure_store, exposures
from movie_mlops.models.serving.ab_report import encode_definition
from movie_mlops.models.serving.experiment_store import ExperimentStore
from movie_mlops.models.serving.exposure_store import Batch, ExposureStore
from movie_mlops.models.serving.exposures import ExposureLog, Shown

TEST = Experiment("t", (Arm("a"), Arm("b")))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ExposureStore]:
    made = ExposureStore(tmp_path / "var" / "exposures.db", "one", kept_records=1_000)
    yield made
    made.close()


def shown(user: str = "1", kind: str = "list", arm: str = "") -> Shown:
    return Shown(
        kind, user, "personal", "movie_recommender", "7", "s1", "popularity", "hash",
        "user-events:0:3", (5, 3), experiment=TEST.name if arm else "", arm=arm,
    )  # fmt: skip


def test_what_is_noted_is_found_by_its_id(store: ExposureStore) -> None:
    log = ExposureLog(store)
    same, ids = shown(), [new_request_id() for _ in range(50)]
    for request_id in ids:
        log.note(request_id, same)
    log.note("client-given", shown("2"))
    for request_id, user in ((ids[0], "1"), (ids[-1], "1"), ("client-given", "2")):
        found = log.find(request_id)
        assert found is not None
        assert (found.request_id, found.shown) == (request_id, shown(user))
        assert abs(found.at_ms - 1000 * time.time()) < 10_000
    [(rows, records)] = store.rows("SELECT count(*), sum(records) FROM batches")
    assert (rows, records) == (1, 51)  # one row per batch, not per answer
    for unknown in ("client", "client-given ", new_request_id(), "0" * 32):
        assert log.find(unknown) is None


@pytest.mark.parametrize("damage", ["no database", "cut off", "overwritten"])
def test_a_damaged_file_is_set_aside_and_begun_anew(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "exposures.db"
    if damage != "no database":
        store = ExposureStore(path, "one")
        for _ in range(50):
            ExposureLog(store).note(new_request_id(), shown())
        store.close()
        whole = path.read_bytes()
        cut = whole[:2_000] if damage == "cut off" else whole[:100] + b"?" * (len(whole) - 100)
        path.write_bytes(cut)
    else:
        path.write_bytes(b"exposures" * 1_000)
    with ThreadPoolExecutor(4) as workers:
        stores = list(workers.map(lambda name: ExposureStore(path, name), "abcd"))
    assert caplog.text.count("is damaged and set aside") == 1
    assert (tmp_path / "exposures.damaged").is_file()
    log, request_id = ExposureLog(stores[0]), new_request_id()
    log.note(request_id, shown())
    log.flush()
    assert ExposureLog(stores[3]).find(request_id) is not None
    stores[1].prune()  # kept as long as exposures are
    assert (tmp_path / "exposures.damaged").is_file()
    os.utime(tmp_path / "exposures.damaged", (0, 0))
    stores[1].prune()
    assert not (tmp_path / "exposures.damaged").exists()
    for store in stores:
        store.close()


def test_a_file_that_is_taken_is_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "exposures.db"
    path.mkdir()
    with pytest.raises(EngineUnavailableError):
        ExposureStore(path, "one")
    assert path.is_dir()


def test_one_id_for_several_viewers_and_their_shadows(store: ExposureStore) -> None:
    log = ExposureLog(store)
    for user in ("1", "2", "3"):
        log.note("batch", shown(user))
    log.note("batch", shown("4", kind="shadow"))
    assert [_user(log, user) for user in ("1", "2", "3", "4", None)] == ["1", "2", "3", None, "3"]


def _user(log: ExposureLog, user: str | None) -> str | None:
    found = log.recall("batch", user) or log.find("batch", user)
    return found.shown.user_id if found else None


def test_other_processes_find_it_and_a_kill_loses_only_what_was_not_written(
    store: ExposureStore, tmp_path: Path
) -> None:
    log = ExposureLog(store)
    log.note("written", shown())
    log.flush()
    log.note("lost", shown())
    other = ExposureLog(ExposureStore(tmp_path / "var" / "exposures.db", "two"))
    found = other.find("written")
    assert found is not None
    assert found.shown == shown()
    assert other.find("lost") is None


def test_it_is_written_by_itself_and_soon(store: ExposureStore) -> None:
    log = ExposureLog(store)
    log.start()
    log.note("r", shown())
    give_up = time.monotonic() + 10
    while store.rows("SELECT count(*) FROM batches") == [(0,)] and time.monotonic() < give_up:
        time.sleep(0.01)
    assert store.rows("SELECT worker, records FROM batches") == [("one", 1)]
    log.close()


def test_too_many_that_wait_are_dropped_and_counted(
    store: ExposureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposures, "MOST_PENDING", 10)
    dropped = exposures._DROPPED["full"]
    exposures.TALLY.flush()
    before = dropped._value.get()
    log = ExposureLog(store)
    for number in range(25):
        log.note(str(number), shown())
    log.flush()
    exposures.TALLY.flush()
    assert dropped._value.get() - before == 15
    assert store.rows("SELECT records FROM kept") == [(10,)]


def test_the_oldest_go_when_there_are_too_many(store: ExposureStore) -> None:
    log = ExposureLog(store)
    for batch in range(30):
        for number in range(100):
            log.note(f"r{batch}-{number}", shown())
        log.flush()
    store.prune()
    [(kept,)] = store.rows("SELECT records FROM kept")
    assert kept <= 1_000
    assert store.rows("SELECT sum(records) FROM batches") == [(kept,)]
    assert log.recall("r29-99", None) is not None
    assert log.recall("r0-0", None) is None


def test_after_a_day_nothing_is_left(store: ExposureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ExposureLog(store)
    old, young = new_request_id(), new_request_id()
    log.note(old, shown())
    log.flush()
    log.note(young, shown())
    log.flush()
    store._writer.execute("UPDATE batches SET end_ms = end_ms - 90000000 WHERE number = 1")
    assert log.recall(old, None) is None  # also before it is removed
    store.prune()
    assert store.rows("SELECT count(*) FROM batches") == [(1,)]
    assert log.recall(young, None) is not None


def test_a_look_up_is_bounded_in_time(
    store: ExposureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b"x" * 200_000
    for _ in range(200):
        now = round(1000 * time.time())
        store.write(Batch(now, now, 1, body))
    monkeypatch.setattr(exposure_store, "_LOOK_INSTRUCTIONS", 10)
    start = time.process_time()
    assert list(store.bodies("nothing", None, 0.0)) == []
    first = time.process_time() - start
    start = time.process_time()
    assert list(store.bodies("nothing", None, 60.0)) == []
    assert first < (time.process_time() - start) / 2


def test_only_so_many_look_at_once(store: ExposureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposures, "LOOK_UP_SECONDS", 0.01)
    log = ExposureLog(store)
    with log._searching, pytest.raises(EngineUnavailableError, match="look-ups"):
        log.find("r")


def test_what_cannot_be_written_is_counted_and_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposure_store, "_BUSY_SECONDS", 0.01)
    store = ExposureStore(tmp_path / "e.db", "one")
    log, lost = ExposureLog(store), exposures._DROPPED["unwritten"]
    before = lost._value.get()
    other = sqlite3.connect(tmp_path / "e.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    log.note("r", shown())
    log.flush()
    other.execute("ROLLBACK")
    assert lost._value.get() - before == 1
    log.note("after", shown())
    assert log.find("after") is not None
    store.close()


def test_users_are_counted_once_and_those_of_two_arms_not_at_all(store: ExposureStore) -> None:
    """Fault 69."""
    tests = ExperimentStore(store)
    assert tests.register("t", encode_definition(TEST))
    assert not tests.register("t", encode_definition(TEST))
    logs = [ExposureLog(store, TEST), ExposureLog(store, TEST)]
    for log in logs:
        for _ in range(3):
            for user, arm in (("1", "a"), ("2", "b"), ("3", "b")):
                log.note(new_request_id(), shown(user, arm=arm))
            log.flush()
    logs[0].note(new_request_id(), shown("3", arm="a"))
    logs[0].note(new_request_id(), shown("4"))
    logs[0].flush()
    found = tests.find("t", 10**12)
    assert found is not None
    assert (found.subjects, found.crossed) == (3, 1)
    assert [(arm, users, done) for _, arm, users, done in found.cells] == [("a", 1, 0), ("b", 1, 0)]
    assert found.versions == {"a": {"7": 7}, "b": {"7": 12}}


def test_subjects_and_tests_are_bounded(
    store: ExposureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = ExperimentStore(store)
    for name in ("one", "two", "three", "four", "t"):
        tests.register(name, encode_definition(TEST))
        time.sleep(0.002)
    assert tests.names() == ["t", "four", "three"]
    few = exposure_store._ADD_SUBJECT.replace(str(exposure_store.KEPT_SUBJECTS), "5")
    monkeypatch.setattr(exposure_store, "_ADD_SUBJECT", few)
    log = ExposureLog(store, TEST)
    for user in range(20):
        log.note(new_request_id(), shown(str(user), arm="a"))
    log.flush()
    assert store.rows("SELECT count(*) FROM subjects") == [(5,)]
