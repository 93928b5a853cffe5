"""The working copy of an object store: same files, whatever happened to either side."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.object_store import S3Server, serving

from movie_mlops.bootstrap.places import find_store
from movie_mlops.data.object_store import FOLDERS, MARK, ObjectStore
from movie_mlops.domain.errors import ConfigurationError, EngineUnavailableError
from movie_mlops.settings import Settings


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serving(tmp_path_factory.mktemp("s3")) as started:
        yield started


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for folder in FOLDERS
        for path in (root / folder).rglob("*")
        if path.is_file()
    }


def write(store: ObjectStore, path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(".writing")
    partial.write_bytes(content)
    store.place(partial, path)


_NAMES = st.sampled_from(["processed/a", "processed/events/b", "raw/x/c", "features/d e+f"])
_ACTS = st.tuples(
    st.sampled_from(["write", "write", "remove", "damage", "lose", "pull"]),
    _NAMES,
    st.binary(max_size=20),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_ACTS, max_size=12))
def test_after_a_pull_the_copy_is_what_was_written(
    server: S3Server, acts: list[tuple[str, str, bytes]]
) -> None:
    """Whatever was written, removed, or damaged in the copy between."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"s3://films/{Path(folder).name}"
        mine, yours = Path(folder) / "mine", Path(folder) / "yours"
        store, other = ObjectStore(url, mine), ObjectStore(url, yours)
        expected: dict[str, bytes] = {}
        store.pull()
        for act, name, content in acts:
            if act == "write":
                write(store, mine / name, content)
                expected[name] = content
            elif act == "remove":
                store.remove(mine / name)
                expected.pop(name, None)
            elif act == "damage":
                (mine / name).parent.mkdir(parents=True, exist_ok=True)
                (mine / name).write_bytes(content)
            elif act == "lose":
                (mine / name).unlink(missing_ok=True)
            else:
                other.pull()
            store.pull_file(mine / name)
            assert contents(mine).get(name) == expected.get(name)
        store.pull()
        other.pull()
        assert contents(mine) == contents(yours) == expected


def test_what_is_there_already_is_not_fetched_again(server: S3Server, tmp_path: Path) -> None:
    store = ObjectStore("s3://films/once", tmp_path)
    store.pull()
    write(store, tmp_path / "processed" / "a", b"one")
    before = (tmp_path / "processed" / "a").stat()
    store.pull()
    store.pull_file(tmp_path / "processed" / "a")
    ObjectStore("s3://films/once", tmp_path).pull("processed")
    assert (tmp_path / "processed" / "a").stat() == before


def test_a_lost_copy_comes_back(server: S3Server, tmp_path: Path) -> None:
    store = ObjectStore("s3://films/lost", tmp_path / "data")
    store.pull()
    large = bytes(range(256)) * 100_000  # three parts of an upload
    write(store, tmp_path / "data" / "processed" / "a", large)
    shutil.rmtree(tmp_path / "data")
    ObjectStore("s3://films/lost", tmp_path / "data").pull()
    assert contents(tmp_path / "data") == {"processed/a": large}


def test_an_empty_store_takes_the_folders_files(server: S3Server, tmp_path: Path) -> None:
    (tmp_path / "mine" / "processed").mkdir(parents=True)
    (tmp_path / "mine" / "processed" / "a").write_bytes(b"one")
    (tmp_path / "mine" / "tmp").mkdir()
    (tmp_path / "mine" / "tmp" / "spilled").write_bytes(b"not kept")
    ObjectStore("s3://films/adopted", tmp_path / "mine").pull()
    ObjectStore("s3://films/adopted", tmp_path / "yours").pull()
    assert contents(tmp_path / "mine") == contents(tmp_path / "yours") == {"processed/a": b"one"}
    assert not (tmp_path / "yours" / "tmp").exists()


def test_a_first_upload_that_was_cut_short_is_finished(server: S3Server, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / "processed").mkdir(exist_ok=True)
        (tmp_path / "processed" / name).write_text(name)
    store = ObjectStore("s3://films/cut", tmp_path)
    store.pull()
    store._client.delete_object(Bucket="films", Key="cut/processed/c")  # as if killed before it
    (tmp_path / MARK).unlink()
    ObjectStore("s3://films/cut", tmp_path).pull()
    assert contents(tmp_path) == {f"processed/{name}": name.encode() for name in "abc"}
    (tmp_path / MARK).unlink()
    (tmp_path / "processed" / "a").write_text("changed on its own")
    with pytest.raises(ConfigurationError, match="both"):
        ObjectStore("s3://films/cut", tmp_path).pull()


def test_a_folder_of_its_own_and_a_full_store_are_not_mixed(
    server: S3Server, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    remote = Settings(home=home, lake_url="s3://films/full")
    store = find_store(remote)
    assert store is not None
    store.pull()
    write(store, home / "data" / "processed" / "a", b"one")
    assert find_store(Settings(home=home)) is None  # the folder goes on alone ...
    (home / "data" / "processed" / "a").write_bytes(b"newer")
    again = find_store(remote)
    assert again is not None
    with pytest.raises(ConfigurationError, match="both"):  # ... and is not overwritten
        again.pull()
    assert (home / "data" / "processed" / "a").read_bytes() == b"newer"
    assert not (home / "data" / MARK).exists()


def test_a_bucket_that_is_not_there_and_wrong_keys_are_told(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="no bucket 'nobody'"):
        ObjectStore("s3://nobody/lake", tmp_path).pull()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(EngineUnavailableError, match=r"s3://films/keys.*(403|SignatureDoes)"):
        ObjectStore("s3://films/keys", tmp_path).pull()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="AWS_ACCESS_KEY_ID"):
        ObjectStore("s3://films/keys", tmp_path).pull()
