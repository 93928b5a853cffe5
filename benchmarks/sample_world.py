"""The sample catalogue and its simulated people, in the size that a benchmark asks for."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from movie_mlops.data.crawlers.base import no_progress
from movie_mlops.data.crawlers.sample import SampleCrawler
from movie_mlops.data.lake import Lake
from movie_mlops.data.processors.tastes import simulate_people
from movie_mlops.data.tables import MOVIES


def sample_world(
    films: int, people: int, watches: int, seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The movies table, and what the people did."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        crawler = SampleCrawler(films=films, seed=seed)
        crawler.fetch(lake.raw(crawler.source), no_progress)
        with lake.connect() as connection:
            crawler.stage(lake.raw(crawler.source), connection)
            lake.replace(MOVIES, connection)
        movies = lake.read(MOVIES.name)
    end = datetime(2026, 1, 1, tzinfo=UTC)
    world = simulate_people(movies, people=people, watches_per_person=watches, seed=seed, end=end)
    return movies, world.interactions
