"""Fixtures for all tests: settings on a temporary home, real data where it lies beside."""

from pathlib import Path

import pytest

from movie_mlops.settings import Settings

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Laptop defaults on a fresh home, with a catalogue small enough for tests."""
    return Settings(home=tmp_path, sample_films=120, sample_people=80, sample_watches_per_person=25)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets beside the checkout."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("real data sets (MovieLens, IMDb, TMDB) are not beside the checkout")
    return folder
