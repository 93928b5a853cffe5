"""The contract of snapshots, on DVC."""

import hashlib
from pathlib import Path

import pytest

from movie_mlops.data.versions import DataVersionManager
from movie_mlops.domain.errors import EngineUnavailableError, SnapshotNotFoundError
from movie_mlops.settings import turn_off_telemetry

turn_off_telemetry()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "processed" / "events").mkdir(parents=True)
    (folder / "processed" / "movies.parquet").write_bytes(b"movies one")
    (folder / "processed" / "people.parquet").write_bytes(b"people one")
    return folder


def contents(base: Path) -> dict[str, str]:
    tables = base / "processed"
    return {
        str(path.relative_to(tables)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tables.rglob("*")
        if path.is_file()
    }


def test_create_change_restore_gives_the_same_bytes(base: Path, tmp_path: Path) -> None:
    replayed = []
    manager = DataVersionManager(base, tmp_path / "cache", lambda: replayed.append(1))
    first = contents(base)
    manager.create_data_snapshot("one")
    (base / "processed" / "movies.parquet").write_bytes(b"movies two")
    (base / "processed" / "people.parquet").unlink()
    (base / "processed" / "events" / "user-events-0-0-9.parquet").write_bytes(b"events")
    second = contents(base)
    manager.create_data_snapshot("two")
    assert manager.diff("one", "two") == {
        "added": ["events/user-events-0-0-9.parquet"],
        "removed": ["people.parquet"],
        "changed": ["movies.parquet"],
    }
    (base / "processed" / "movies.parquet").write_bytes(b"not yet in a snapshot")
    third = contents(base)
    saved = manager.restore_data_version("one")
    assert contents(base) == first
    manager.restore_data_version("two")
    assert contents(base) == second
    manager.restore_data_version(saved)
    assert contents(base) == third
    assert len(replayed) == 3
    again = DataVersionManager(base, tmp_path / "cache")
    assert {"one", "two", saved} <= {found.tag for found in again.list_snapshots()}


def test_what_the_cache_lost_or_spoilt_is_not_restored(base: Path, tmp_path: Path) -> None:
    manager = DataVersionManager(base, tmp_path / "cache")
    digest = manager.create_data_snapshot("one").files["movies.parquet"]
    kept = tmp_path / "cache" / "files" / "md5" / digest[:2] / digest[2:]
    (base / "processed" / "movies.parquet").write_bytes(b"movies two")
    before = contents(base)
    kept.chmod(0o644)
    kept.write_bytes(b"spoilt")
    with pytest.raises(EngineUnavailableError, match="damaged"):
        manager.restore_data_version("one")
    kept.unlink()
    with pytest.raises(EngineUnavailableError, match="lacks"):
        manager.restore_data_version("one")
    assert contents(base) == before


def test_a_state_has_one_automatic_tag(base: Path) -> None:
    manager = DataVersionManager(base)
    tag = manager.current_or_new()
    assert manager.current_or_new() == tag
    (base / "processed" / "movies.parquet").write_bytes(b"movies two")
    assert manager.current_or_new() != tag


def test_a_tag_never_moves(base: Path) -> None:
    manager = DataVersionManager(base)
    manager.create_data_snapshot("one")
    assert manager.create_data_snapshot("one").tag == "one"
    (base / "processed" / "movies.parquet").write_bytes(b"movies two")
    with pytest.raises(ValueError, match="another state"):
        manager.create_data_snapshot("one")


@pytest.mark.parametrize("tag", ["", "../x", "a b", "x" * 101, "-x"])
def test_malformed_tags_are_refused(base: Path, tag: str) -> None:
    manager = DataVersionManager(base)
    with pytest.raises(ValueError, match="no tag"):
        manager.create_data_snapshot(tag)
    with pytest.raises(SnapshotNotFoundError):
        manager.restore_data_version(tag)


def test_nothing_to_snapshot(tmp_path: Path) -> None:
    with pytest.raises(SnapshotNotFoundError, match="data_collection"):
        DataVersionManager(tmp_path).create_data_snapshot("one")
