"""Exposures in SQLite: a damaged file, a locked one, a look-up that a clock ends."""

import os
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.domain.requests import new_request_id
from movie_mlops.models.serving import exposure_sqlite, exposures
from movie_mlops.models.serving.exposure_sqlite import SqliteExposureStore
from movie_mlops.models.serving.exposure_store import Batch
from movie_mlops.models.serving.exposures import ExposureLog, Shown


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteExposureStore]:
    made = SqliteExposureStore(tmp_path / "var" / "exposures.db", "one", kept_records=1_000)
    yield made
    made.close()


def shown(user: str = "1") -> Shown:
    return Shown(
        "list", user, "personal", "movie_recommender", "7", "s1", "popularity", "hash",
        "user-events:0:3", (5, 3),
    )  # fmt: skip


@pytest.mark.parametrize("damage", ["no database", "cut off", "overwritten"])
def test_a_damaged_file_is_set_aside_and_begun_anew(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "exposures.db"
    if damage != "no database":
        store = SqliteExposureStore(path, "one")
        for _ in range(50):
            ExposureLog(store).note(new_request_id(), shown())
        store.close()
        whole = path.read_bytes()
        cut = whole[:2_000] if damage == "cut off" else whole[:100] + b"?" * (len(whole) - 100)
        path.write_bytes(cut)
    else:
        path.write_bytes(b"exposures" * 1_000)
    with ThreadPoolExecutor(4) as workers:
        stores = list(workers.map(lambda name: SqliteExposureStore(path, name), "abcd"))
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
        SqliteExposureStore(path, "one")
    assert path.is_dir()


def test_a_look_up_is_bounded_in_time(
    store: SqliteExposureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b"x" * 200_000
    for _ in range(200):
        now = round(1000 * time.time())
        store.write(Batch(now, now, 1, body))
    monkeypatch.setattr(exposure_sqlite, "_LOOK_INSTRUCTIONS", 10)
    start = time.process_time()
    assert list(store.bodies("nothing", None, 0.0)) == []
    first = time.process_time() - start
    start = time.process_time()
    assert list(store.bodies("nothing", None, 60.0)) == []
    assert first < (time.process_time() - start) / 2


def test_what_cannot_be_written_is_counted_and_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposure_sqlite, "_BUSY_SECONDS", 0.01)
    store = SqliteExposureStore(tmp_path / "e.db", "one")
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
