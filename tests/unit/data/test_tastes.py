"""People with tastes: contracts, determinism, and something to learn."""

from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from movie_mlops.data.lake import Lake
from movie_mlops.data.processors.catalog import stage_tmdb_movies, write_records
from movie_mlops.data.processors.sample_films import invent_films
from movie_mlops.data.processors.tastes import simulate_interactions, simulate_people
from movie_mlops.data.tables import INTERACTIONS, MOVIES, PEOPLE
from movie_mlops.domain.movies import GENRES

END = datetime(2026, 11, 21, tzinfo=UTC)


@cache
def _catalogue(folder: Path) -> pl.DataFrame:
    lake = Lake(folder)
    write_records(invent_films(400, 42), folder / "films.json")
    with lake.connect() as connection:
        stage_tmdb_movies(folder / "films.json", connection)
        lake.replace(MOVIES, connection)
    return lake.read("movies")


@pytest.fixture(scope="module")
def movies(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    return _catalogue(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="module")
def world(movies: pl.DataFrame):  # type: ignore[no-untyped-def]
    return simulate_people(movies, people=600, watches_per_person=40, seed=42, end=END)


def test_every_row_passes_the_contract(tmp_path: Path, world) -> None:  # type: ignore[no-untyped-def]
    lake = Lake(tmp_path)
    with lake.connect() as connection:
        connection.register("raw_people", world.people.to_arrow())
        connection.register("raw_interactions", world.interactions.to_arrow())
        assert lake.replace(PEOPLE, connection).quarantined == {}
        assert lake.replace(INTERACTIONS, connection).quarantined == {}
    assert lake.read("interactions").equals(world.interactions)
    assert world.people["user_id"].to_list()[:2] == ["1", "2"]
    assert world.people["taste_ko"].str.contains("[가-힣]").all()


def test_the_same_seed_and_end_give_the_same_rows(movies: pl.DataFrame, world) -> None:  # type: ignore[no-untyped-def]
    again = simulate_people(movies, people=600, watches_per_person=40, seed=42, end=END)
    assert again.interactions.equals(world.interactions)
    assert again.people.equals(world.people)
    other = simulate_people(movies, people=600, watches_per_person=40, seed=7, end=END)
    assert not other.interactions.equals(world.interactions)


def test_what_people_do_is_plausible(movies: pl.DataFrame, world) -> None:  # type: ignore[no-untyped-def]
    acts = world.interactions
    watches = acts.filter(pl.col("interaction_type") == "watch")
    assert set(acts["interaction_type"]) == {"watch", "rating", "like", "dislike", "view", "click"}
    assert not watches.select("user_id", "movie_id").is_duplicated().any()
    assert 25 < len(watches) / 600 < 45
    assert acts["timestamp"].max() <= END
    ratings = acts["rating"].drop_nulls()
    assert set((ratings * 2).to_list()) <= set(range(1, 11))
    assert 3.0 < ratings.mean() < 4.2
    assert acts["rating"].is_null().eq(acts["interaction_type"] != "rating").all()
    released = watches.join(movies.select("movie_id", "year"), on="movie_id")
    assert (released["year"] <= released["timestamp"].dt.year()).all()
    assert watches["user_id"].n_unique() > 590


def hit_rate(scores: np.ndarray, seen: np.ndarray, target: np.ndarray) -> float:
    scores = np.where(seen, -np.inf, scores)
    rank = (scores > np.take_along_axis(scores, target[:, None], 1)).sum(axis=1)
    return float((rank < 10).mean())


def test_taste_can_be_learned_and_beats_popularity(world) -> None:  # type: ignore[no-untyped-def]
    watches = world.interactions.filter(pl.col("interaction_type") == "watch")
    ids = world.population.films.movie_id
    histories = watches.group_by("user_id", maintain_order=True).agg("movie_id")["movie_id"]
    rows = [np.searchsorted(ids, history.to_numpy()) for history in histories]
    rows = [row for row in rows if len(row) > 2]
    seen = np.zeros((len(rows), len(ids)))
    for number, row in enumerate(rows):
        seen[number, row[:-1]] = 1
    target = np.array([row[-1] for row in rows])
    popular = hit_rate(np.tile(seen.sum(axis=0), (len(rows), 1)), seen > 0, target)
    inverse = np.linalg.inv(seen.T @ seen + 60 * np.eye(len(ids)))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    learned = hit_rate(seen @ weights, seen > 0, target)
    assert learned > 1.25 * popular
    assert learned < 0.6, "not trivially"


def test_order_tells_something(movies: pl.DataFrame, world) -> None:  # type: ignore[no-untyped-def]
    main = dict(zip(movies["movie_id"], movies["genres"].list.first(), strict=True))
    watches = world.interactions.filter(pl.col("interaction_type") == "watch")
    same, shuffled = [], []
    rng = np.random.default_rng(0)
    for history in watches.group_by("user_id", maintain_order=True).agg("movie_id")["movie_id"]:
        genres = [main[film] for film in history]
        same += [a == b for a, b in pairwise(genres)]
        mixed = rng.permutation(genres)
        shuffled += list(mixed[1:] == mixed[:-1])
    assert np.mean(same) > 1.5 * np.mean(shuffled)


def test_a_shift_of_taste_shows_in_what_is_watched(movies: pl.DataFrame, world) -> None:  # type: ignore[no-untyped-def]
    horror = set(movies.filter(pl.col("genres").list.contains("Horror"))["movie_id"])

    def share(acts: pl.DataFrame) -> float:
        watched = acts.filter(pl.col("interaction_type") == "watch")["movie_id"]
        return float(watched.is_in(list(horror)).mean())

    after = simulate_interactions(world.population.shifted(2.0, "Horror"), END, 40)
    assert share(after) > 1.5 * share(world.interactions)


def test_a_good_list_is_watched_more_than_a_bad_one(world) -> None:  # type: ignore[no-untyped-def]
    population = world.population
    ids = population.films.movie_id
    good, bad = 0.0, 0.0
    for person in range(40):
        order = np.argsort(-population.utility(np.array([person]))[0])
        good += population.watch_probability(str(person + 1), ids[order[:10]].tolist()).sum()
        bad += population.watch_probability(str(person + 1), ids[order[-10:]].tolist()).sum()
    assert good > 3 * bad
    first, *_, last = population.watch_probability("1", [int(ids[0])] * 10)
    assert first > last > 0
    assert population.watch_probability("1", [10**12]).tolist() == [0.0]


def test_two_people_and_few_films_are_enough(movies: pl.DataFrame) -> None:
    small = simulate_people(movies.head(5), people=2, watches_per_person=60, seed=1, end=END)
    assert small.people["user_id"].to_list() == ["1", "2"]
    assert len(GENRES) == small.population.taste.shape[1]
