"""The default source: a catalogue of invented films, made from a seed without any network."""

from pathlib import Path
from typing import TYPE_CHECKING

from movie_mlops.data.crawlers.base import Progress
from movie_mlops.data.processors.catalog import stage_tmdb_movies, write_records
from movie_mlops.data.processors.sample_films import invent_films

if TYPE_CHECKING:
    import duckdb

FILE = "popular.json"


class SampleCrawler:
    """Invented films with ids 1…films; the same `films` and `seed` give the same file."""

    source = "sample"

    def __init__(self, films: int, seed: int) -> None:
        self._films = films
        self._seed = seed

    def fetch(self, raw: Path, progress: Progress) -> None:
        """Write `popular.json`, one object with the TMDB-shaped films under `movies`."""
        progress("inventing films", 0, self._films)
        write_records(invent_films(self._films, self._seed), raw / FILE)
        progress("inventing films", self._films, self._films)

    def stage(self, raw: Path, connection: "duckdb.DuckDBPyConnection") -> tuple[str, ...]:
        """Register `raw_movies`.

        Raises:
            SourceFormatError: `popular.json` is missing, truncated or holds no film.
        """
        stage_tmdb_movies(raw / FILE, connection)
        return ("movies",)
