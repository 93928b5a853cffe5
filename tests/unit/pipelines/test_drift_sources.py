"""The watched windows: what was learnt, what came after, and the sample people's own shifts."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from movie_mlops.data.lake import Lake
from movie_mlops.data.processors.catalog import stage_tmdb_movies, write_records
from movie_mlops.data.processors.population import draw_population
from movie_mlops.data.processors.sample_films import invent_films
from movie_mlops.data.processors.tastes import simulate_interactions
from movie_mlops.data.tables import INTERACTIONS, MOVIES
from movie_mlops.events.base import partition_of
from movie_mlops.events.schemas import TOPICS, USER_EVENTS
from movie_mlops.monitoring.drift import DriftReport, compare
from movie_mlops.pipelines.drift_sources import (
    ACTS,
    WATCHED,
    Frames,
    Trained,
    acts,
    answered,
    described,
    family,
    windows,
)
from movie_mlops.settings import Settings

END = datetime(2026, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("lake")
    made = Lake(folder)
    write_records(invent_films(300, 42), folder / "films.json")
    with made.connect() as connection:
        stage_tmdb_movies(folder / "films.json", connection)
        made.replace(MOVIES, connection)
    return made


def split(before: pl.DataFrame, after: pl.DataFrame, films: pl.DataFrame, at: datetime) -> Frames:
    learnt = described(before.filter(pl.col("timestamp") <= at), films)
    since = described(
        after.filter(pl.col("timestamp").is_between(at, at + WEEK, closed="right")), films
    )
    return windows(ACTS, learnt, since, WEEK)


def check(lake: Lake, seed: int, days: int, shift: float = 0.0, count: int = 400) -> DriftReport:
    films = lake.read("movies")
    people = draw_population(films, count, seed)
    before = simulate_interactions(people, END, 40)
    after = simulate_interactions(people.shifted(shift), END, 40) if shift else before
    frames = split(before, after, films, END - timedelta(days=days))
    return compare([family(frames, WATCHED)], 0.05, 50, seed)


def test_weeks_of_the_same_sample_people_rarely_alarm(lake: Lake) -> None:
    """At 5 % per check: of 40 weeks more than six have a chance of one in a hundred."""
    assert sum(check(lake, seed, 30 + seed).drifted for seed in range(40)) <= 6


def test_a_fashion_among_the_sample_people_is_found_in_their_genres(lake: Lake) -> None:
    reports = [check(lake, seed, 40, shift=2.5, count=1_200) for seed in range(5)]
    assert all(report.drifted for report in reports)
    assert all("genre" in {e.name for e in report.features if e.drifted} for report in reports)


def test_settings_know_every_watched_feature() -> None:
    assert set(Settings().drift_features) == set(WATCHED)


def event(user: str, offset: int, when: datetime, film: int = 1) -> dict[str, object]:
    return {
        "event_id": f"e{user}-{offset}", "user_id": user, "movie_id": film,
        "interaction_type": "watch", "rating": None, "timestamp": when,
        "target_event_id": None, "offset": offset,
    }  # fmt: skip


EVENT_SCHEMA = {
    "event_id": pl.String(), "user_id": pl.String(), "movie_id": pl.Int64(),
    "interaction_type": pl.String(), "rating": pl.Float64(),
    "timestamp": INTERACTIONS.schema["timestamp"], "target_event_id": pl.String(),
    "offset": pl.Int64(),
}  # fmt: skip


def test_learnt_is_what_the_card_says_whatever_the_clock_says(lake: Lake, tmp_path: Path) -> None:
    """Events by position: one that was learnt may bear a later time than one that was not."""
    home = Lake(tmp_path)
    home.processed.mkdir(parents=True)
    lake.read("movies").write_parquet(home.path("movies"))
    rows = [("1", 1, "watch", None, END - timedelta(days=9), 0), ("2", 2, "watch", None, END, 1)]
    pl.DataFrame(rows, schema=INTERACTIONS.schema, orient="row").write_parquet(
        home.path("interactions")
    )
    user = "7"
    place = partition_of(user, TOPICS[USER_EVENTS])
    events = [event(user, offset, END + timedelta(hours=5 - offset)) for offset in range(4)]
    home.append_events(USER_EVENTS, place, 0, 3, pl.DataFrame(events, schema=EVENT_SCHEMA))
    trained = Trained({place: 2}, END - timedelta(days=1))
    found = acts(home, trained, timedelta(days=30), END + timedelta(days=1))
    assert found.reference["who"].to_list() == ["1", user, user]
    assert sorted(found.current["who"].to_list()) == ["2", user, user]
    # without a snapshot's time the table counts as learnt; what is to come is not looked at
    found = acts(home, Trained({place: 2}, None), timedelta(days=30), END + timedelta(hours=2.5))
    assert found.reference["who"].to_list() == ["1", "2"]
    assert found.current["who"].to_list() == [user]
    short = acts(home, Trained({}, None), timedelta(minutes=90), END + timedelta(days=1))
    assert short.current.height == 2
    assert short.end == END + timedelta(hours=5)


def test_a_home_without_events_has_an_empty_window(lake: Lake, tmp_path: Path) -> None:
    home = Lake(tmp_path)
    home.processed.mkdir(parents=True)
    lake.read("movies").write_parquet(home.path("movies"))
    found = acts(home, Trained({}, None), WEEK, END)
    assert (found.reference.height, found.current.height, found.end) == (0, 0, None)
    assert compare([family(found, WATCHED)], 0.01, 50).state == "too little data"


def test_film_facts_are_only_of_positive_acts(lake: Lake) -> None:
    kinds = ["watch", "rating", "rating", "like", "dislike", "view", "click"]
    ratings = [None, 4.0, 1.0, None, None, None, None]
    rows = [
        ("1", 5, kind, stars, END, at)
        for at, (kind, stars) in enumerate(zip(kinds, ratings, strict=True))
    ]
    found = described(
        pl.DataFrame(rows, schema=INTERACTIONS.schema, orient="row"), lake.read("movies")
    )
    positive = [True, True, False, True, False, False, False]
    for name in ("genre", "popularity", "era"):
        assert found[name].is_not_null().to_list() == positive
    assert found["rating"].to_list() == [None, 4.0, 1.0, None, None, None, None]
    assert found["approval"].drop_nulls().to_list() == ["like", "dislike"]
    assert found["click"].drop_nulls().to_list() == ["view", "click"]


def test_a_lists_path_counts_once_and_its_films_each(lake: Lake) -> None:
    shown = pl.DataFrame(
        {"who": [0, 1, 2], "timestamp": [END] * 3, "path": ["personal", "popular", "static"],
         "items": [[1, 2], [3], []]},
        schema_overrides={"items": pl.List(pl.Int64)},
    )  # fmt: skip
    found = answered(shown, lake.read("movies"))
    assert found["path"].drop_nulls().to_list() == ["personal", "popular", "static"]
    assert found["shown_genre"].drop_nulls().len() == 3
