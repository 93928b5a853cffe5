from pathlib import Path

import pytest

from movie_mlops.cli.homes import choose_home, choose_source_url, record_source, source_of
from movie_mlops.domain.errors import ConfigurationError


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(home: Path, source: str) -> None:
    record_source(home, source)
    (home / "data/processed").mkdir(parents=True)
    (home / "data/processed/movies.parquet").touch()


def test_the_source_given_wins_over_the_settings(here: Path) -> None:
    assert choose_source_url(None, None, None) == "sample:"
    assert choose_source_url(None, "movielens", None) == "movielens:ml-latest-small"
    (here / "folder").mkdir()
    assert choose_source_url(None, "movielens", "folder") == f"movielens:{here / 'folder'}"
    assert choose_source_url(None, "movielens", "ml-1m") == "movielens:ml-1m"
    (here / ".env").write_text("MOVIE_MLOPS_SOURCE_URL=movielens:ml-25m\n")
    assert choose_source_url(None, None, None) == "movielens:ml-25m"
    assert choose_source_url(None, "movielens", None) == "movielens:ml-25m"
    assert choose_source_url(None, "sample", None) == "sample:"


def test_a_home_holds_one_source(here: Path) -> None:
    assert choose_home(None, "tmdb") == here
    record_source(here, "tmdb")
    assert source_of(here) is None  # it holds no film yet, so it is still free
    assert choose_home(None, "sample") == here
    fill(here, "movielens")
    assert choose_home(None, "movielens") == here
    assert choose_home(None, "sample") == here / "homes/sample"
    with pytest.raises(ConfigurationError, match="holds data of the source movielens"):
        choose_home(here, "sample")
