"""What the stack remembers: secrets, ports, records, its lock; torn files."""

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.stack.files import Book, Record, write_text

RECORD = Record("1.0", 1234, ("server",), 17.0)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    book = Book(tmp_path / "stack")
    book.folder("sleeper")
    return book


@pytest.fixture
def folder(book: Book, tmp_path: Path) -> Path:
    return book.folder("sleeper")


def test_secrets_are_made_once_and_are_their_owners(book: Book, tmp_path: Path) -> None:
    path = tmp_path / "stack" / "secrets.json"
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(book.secret, ["redis"] * 20))
    assert len(made) == 1
    assert book.secret("other") not in made
    assert Book(tmp_path / "stack").secret("redis") in made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(made.pop()) >= 40


def test_damaged_secrets_are_not_replaced(book: Book, tmp_path: Path) -> None:
    book.secret("redis")
    path = tmp_path / "stack" / "secrets.json"
    path.write_text('{"redis": "ab')
    with pytest.raises(ConfigurationError, match=r"secrets\.json is damaged"):
        book.secret("redis")
    assert path.read_text() == '{"redis": "ab'


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"version": "1"}', '{"processes": 3}', "\0\0"])
def test_a_torn_record_is_none(book: Book, folder: Path, torn: str) -> None:
    book.write_record("sleeper", RECORD)
    assert book.record("sleeper") == RECORD
    (folder / "record.json").write_text(torn)
    assert book.record("sleeper") is None


def test_files_are_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "config"
    write_text(path, "old")
    (tmp_path / ".config.new").write_text("what a kill left over")
    write_text(path, "new", 0o600)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["config"]


def test_the_lock_is_waited_for_and_names_its_holder(book: Book) -> None:
    told: list[str] = []
    entered = threading.Event()

    def second() -> None:
        with book.lock(told.append):
            entered.set()

    with book.lock(told.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.2)
    thread.join(10)
    assert entered.is_set()
    assert f"process {os.getpid()}" in told[0]
