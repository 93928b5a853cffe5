"""The guide's simulation: formula, draws without repeats, the same file for the same seed."""

import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from movie_mlops.data.lake import Lake
from movie_mlops.data.processors.watch_log import TMDBPreProcessor
from movie_mlops.data.tables import WATCH_LOG

MOVIES = [
    {"id": number, "vote_average": number % 10 + 0.5, "popularity": float(number)}
    for number in range(1, 61)
]


def test_the_pool_holds_a_film_two_to_its_rating_times() -> None:
    film = {"id": 3, "vote_average": 7.8, "popularity": 2.0}
    copies = TMDBPreProcessor.augmentation(film)
    assert len(copies) == int(2**7.8)
    assert copies[0] == {"content_id": 3, "rating": 7.8, "popularity": 2.0}
    assert len(TMDBPreProcessor.augmentation({**film, "vote_average": 0})) == 1


@pytest.mark.parametrize("rating", [1.0, 5.0, 8.0])
def test_watch_seconds_follow_the_formula_with_a_tenth_of_noise(rating: float) -> None:
    simulation = TMDBPreProcessor(MOVIES)
    mean = 7200 * (1.1 ** (rating - 5) - 1.1**-5) / (1.1**5 - 1.1**-5)
    drawn = np.array([simulation.generate_watch_second(rating) for _ in range(4000)])
    assert drawn.mean() == pytest.approx(mean, rel=0.01)
    assert drawn.std() == pytest.approx(0.1 * mean, rel=0.1)


def test_watch_seconds_are_clipped_to_two_hours() -> None:
    simulation = TMDBPreProcessor(MOVIES)
    assert {simulation.generate_watch_second(0.0) for _ in range(20)} == {0}
    assert max(simulation.generate_watch_second(10.0) for _ in range(200)) == 7200


def test_a_run_keeps_the_contract(tmp_path: Path) -> None:
    simulation = TMDBPreProcessor(MOVIES, user_count=300, max_select_count=20)
    log = simulation.run()
    assert log.schema == pl.Schema(WATCH_LOG.schema)
    assert not log.select("user_id", "content_id").is_duplicated().any()
    counts = log.group_by("user_id").len()["len"]
    assert counts.max() <= 20
    assert log["user_id"].n_unique() < 300, "some draw no film at all"
    lake = Lake(tmp_path)
    with lake.connect() as connection:
        connection.register("raw_watch_log", simulation.to_frame().to_arrow())
        assert lake.replace(WATCH_LOG, connection).quarantined == {}


def test_well_rated_films_are_drawn_as_their_copies_say() -> None:
    two = [{"id": 1, "vote_average": 5.0}, {"id": 2, "vote_average": 7.0}]
    log = TMDBPreProcessor(two, user_count=40_000, max_select_count=1).run()
    share = (log["content_id"] == 2).mean()
    assert share == pytest.approx(128 / (128 + 32), abs=0.01)


def test_selection_draws_from_a_pool_of_copies() -> None:
    simulation = TMDBPreProcessor(MOVIES, max_select_count=5)
    pool = [copy for film in MOVIES for copy in simulation.augmentation(film)]
    rows = [row for user in range(50) for row in simulation.selection(user, pool)]
    assert set(rows[0]) == {"user_id", "content_id", "watch_seconds", "rating", "popularity"}
    assert all(row["rating"] == row["content_id"] % 10 + 0.5 for row in rows)


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulation = TMDBPreProcessor(MOVIES, seed=seed)
        simulation.run()
        files.append(simulation.save(tmp_path / name).read_bytes())
    assert files[0] == files[1] != files[2]
    head = files[0].splitlines()[0].decode()
    assert head == "user_id,content_id,watch_seconds,rating,popularity"


def test_the_picture_is_saved(tmp_path: Path) -> None:
    simulation = TMDBPreProcessor(MOVIES)
    simulation.run()
    assert simulation.plot(tmp_path / "picture").read_bytes().startswith(b"\x89PNG")


def test_no_films_no_rows() -> None:
    assert TMDBPreProcessor([]).run().is_empty()


def test_a_quarter_million_rows_take_seconds() -> None:
    started = time.process_time()
    assert len(TMDBPreProcessor(MOVIES, user_count=25_000).run()) > 230_000
    assert time.process_time() - started < 10
