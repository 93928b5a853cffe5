"""The contract of tables, in a folder and an S3-compatible store: others read what one wrote."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from tests.object_store import serving

from movie_mlops.data.lake import Lake
from movie_mlops.data.object_store import ObjectStore
from movie_mlops.data.tables import INTERACTIONS
from movie_mlops.data.versions import DataVersionManager
from movie_mlops.domain.errors import DataQualityError
from movie_mlops.pipelines.user_rows import UserRows
from movie_mlops.settings import turn_off_telemetry

turn_off_telemetry()
Open = Callable[[str], Lake]


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.engine("s3"))])
def open_lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the one lake of the test; of a store each name is a working copy of its own."""
    if request.param == "folder":
        yield lambda _: Lake(tmp_path / "data")
        return
    with serving(tmp_path) as server:
        yield lambda name: Lake(tmp_path / name, store=ObjectStore(server.url, tmp_path / name))


def acts(count: int, users: int = 7, **changed: object) -> pl.DataFrame:
    """Loose interactions, all good unless changed in the first row."""
    rows = [
        {"user_id": str(i % users), "movie_id": str(i + 1), "interaction_type": "rating",
         "rating": "4.5", "timestamp": str(1_700_000_000 + i), "line": str(i)}
        for i in range(count)
    ]  # fmt: skip
    rows[0] |= changed  # type: ignore[arg-type]
    return pl.DataFrame(rows)


def put(lake: Lake, frame: pl.DataFrame) -> None:
    with lake.connect() as connection:
        connection.register("raw_interactions", frame.to_arrow())
        lake.replace(INTERACTIONS, connection, source="test")


def files(lake: Lake, folder: str) -> list[str]:
    lake.pull(folder)
    found = (lake.root / folder).rglob("*")
    return sorted(path.name for path in found if path.is_file())


def test_a_table_that_one_writes_is_what_others_read(open_lake: Open) -> None:
    mine, yours = open_lake("mine"), open_lake("yours")
    assert not yours.exists("interactions")
    with pytest.raises(FileNotFoundError):
        yours.read("interactions")
    for count in (10, 20, 5):
        put(mine, acts(count))
        assert yours.exists("interactions")
        assert yours.read("interactions").equals(mine.read("interactions"))
        assert len(yours.read("interactions")) == count
    assert files(yours, "processed") == ["interactions.parquet"]


def test_too_many_bad_rows_leave_the_last_good_table(open_lake: Open) -> None:
    mine, yours = open_lake("mine"), open_lake("yours")
    put(mine, acts(10))
    with pytest.raises(DataQualityError):
        put(mine, acts(3, rating="99"))
    assert len(yours.read("interactions")) == 10


def test_refused_rows_are_kept_and_come_back_mended(open_lake: Open) -> None:
    mine, yours = open_lake("mine"), open_lake("yours")
    put(mine, acts(10, rating="99"))
    (name,) = files(yours, "quarantine")
    refused = pl.read_parquet(yours.root / "quarantine" / "interactions" / name)
    mended = refused.with_columns(pl.col("row").str.replace('"99"', '"3.5"'))
    with yours.replacing(yours.root / "quarantine" / "interactions" / name) as partial:
        mended.write_parquet(partial)
    assert mine.replay_quarantine(INTERACTIONS).rows_out == 1
    assert files(yours, "quarantine") == []
    assert 3.5 in yours.read("interactions")["rating"].to_list()
    assert len(yours.read("interactions")) == 10


def test_events_merge_and_repeat_without_doubling(open_lake: Open) -> None:
    mine, yours = open_lake("mine"), open_lake("yours")
    assert yours.events("user-events").is_empty()
    batch = pl.DataFrame({"event_id": ["a", "b"], "movie_id": [1, 2]})
    more = pl.DataFrame({"event_id": ["a", "b", "c"], "movie_id": [1, 2, 3]})
    mine.append_events("user-events", 0, 0, 1, batch)
    mine.append_events("user-events", 1, 0, 0, batch[:1])
    assert len(yours.events("user-events")) == 2
    mine.append_events("user-events", 0, 0, 2, more)
    assert yours.events("user-events")["event_id"].to_list() == ["a", "b", "c"]
    assert yours.event_positions("user-events") == {0: 3, 1: 1}
    names = ["user-events-0-0-2.parquet", "user-events-1-0-0.parquet"]
    assert files(yours, "processed/events") == names
    with yours.pinned("interactions", "user-events") as pinned:
        assert [path.name for path in pinned["user-events"]] == names
        assert pinned["interactions"] == []


def test_raw_files_stay_as_they_came(open_lake: Open) -> None:
    mine, yours = open_lake("mine"), open_lake("yours")
    folder = mine.raw("tmdb")
    (folder / "popular.json").write_text("one")
    (folder / "old.json").write_text("old")
    mine.raw_written("tmdb")
    assert (yours.raw("tmdb") / "popular.json").read_text() == "one"
    (folder / "popular.json").write_text("two")
    (folder / "old.json").unlink()
    mine.raw_written("tmdb")
    assert [path.read_text() for path in yours.raw("tmdb").iterdir()] == ["two"]


def test_an_erased_viewer_is_gone_for_all(open_lake: Open) -> None:
    mine, yours = open_lake("mine"), open_lake("yours")
    put(mine, acts(20, users=4))
    assert "3" in yours.read("interactions")["user_id"].to_list()
    assert UserRows("3", {}).drop_from_lake(mine) == {"interactions": 5}
    assert "3" not in yours.read("interactions")["user_id"].to_list()
    assert len(yours.read("interactions")) == 15


def test_a_restored_snapshot_is_what_others_read(open_lake: Open, tmp_path: Path) -> None:
    mine, yours = open_lake("mine"), open_lake("yours")
    snapshots = DataVersionManager(mine.root, tmp_path / "cache", lake=mine)
    put(mine, acts(10))
    one = yours.read("interactions")
    snapshots.create_data_snapshot("one")
    put(mine, acts(30))
    mine.append_events("user-events", 0, 0, 0, pl.DataFrame({"event_id": ["a"]}))
    assert len(yours.read("interactions")) == 30
    saved = snapshots.restore_data_version("one")
    assert yours.read("interactions").equals(one)
    assert files(yours, "processed") == ["interactions.parquet"]
    snapshots.restore_data_version(saved)
    assert len(yours.read("interactions")) == 30
    assert len(yours.events("user-events")) == 1


def test_readers_see_the_old_table_or_the_new_one(open_lake: Open) -> None:
    mine, yours = open_lake("mine"), open_lake("yours")
    put(mine, acts(100))
    sizes: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            sizes.append(len(yours.read("interactions")))

    reader = threading.Thread(target=read)
    reader.start()
    for count in (200, 100, 200, 100):
        put(mine, acts(count))
    done.set()
    reader.join()
    assert set(sizes) <= {100, 200}
    assert sizes
