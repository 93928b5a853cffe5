from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from movie_mlops.data.lake import Lake
from movie_mlops.data.tables import INTERACTIONS, MOVIES
from movie_mlops.domain.errors import FeatureError
from movie_mlops.features.engineering.build import build_features, check_view
from movie_mlops.features.engineering.interaction_features import all_interactions
from movie_mlops.features.views import VIEWS

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def acts(*rows: tuple[str, int, str, float | None]) -> pl.DataFrame:
    return pl.DataFrame(
        [(u, m, k, r, NOON + timedelta(minutes=n), n) for n, (u, m, k, r) in enumerate(rows)],
        schema=INTERACTIONS.schema,
        orient="row",
    )


def test_preference_is_the_genre_liked_most_so_far(tmp_path) -> None:  # type: ignore[no-untyped-def]
    genres = {1: ["Drama"], 2: ["Comedy"], 3: []}
    movies = pl.DataFrame(
        [{"movie_id": film, "genres": names} for film, names in genres.items()],
        schema=MOVIES.schema,
    )
    frame = acts(
        ("a", 3, "watch", None), ("a", 2, "dislike", None), ("a", 2, "like", None),
        ("a", 1, "rating", 4.0), ("a", 1, "rating", 2.0), ("a", 1, "watch", None),
    )  # fmt: skip
    lake = Lake(tmp_path)
    lake.processed.mkdir()
    movies.write_parquet(lake.path("movies"))
    frame.write_parquet(lake.path("interactions"))
    build_features(lake)
    found = pl.read_parquet(lake.features / "user_features.parquet").sort("event_timestamp")
    assert found["genre_preference"].to_list() == [None, None, *["Comedy"] * 3, "Drama"]
    assert found["interaction_count"].to_list() == [1, 2, 3, 4, 5, 6]
    assert found["mean_rating"].to_list() == [None, None, None, 4.0, 3.0, 3.0]
    assert found["positive_share"].to_list()[-1] == pytest.approx(4 / 6)
    assert (found["event_timestamp"] > frame["timestamp"]).all()


def test_events_join_the_table_once_and_undone_ones_not_at_all(tmp_path) -> None:  # type: ignore[no-untyped-def]
    lake = Lake(tmp_path)
    lake.processed.mkdir()
    acts(("a", 1, "watch", None)).write_parquet(lake.path("interactions"))
    event = {
        "user_id": "a", "movie_id": 2, "interaction_type": "like", "rating": None,
        "timestamp": NOON, "event_id": "e1", "target_event_id": None,
    }  # fmt: skip
    schema = {
        "rating": pl.Float64,
        "target_event_id": pl.String,
        "timestamp": INTERACTIONS.schema["timestamp"],
    }
    undo = {**event, "interaction_type": "undo", "event_id": "e3", "target_event_id": "e2"}
    first = pl.DataFrame(
        [event, {**event, "movie_id": 3, "event_id": "e2"}], schema_overrides=schema
    )
    lake.append_events("user-events", 0, 0, 1, first)
    lake.append_events(
        "user-events",
        0,
        1,
        2,
        pl.DataFrame([{**event, "movie_id": 3, "event_id": "e2"}, undo], schema_overrides=schema),
    )
    found = all_interactions(lake)
    assert found["movie_id"].to_list() == [1, 2]
    assert found["event_id"].to_list() == [None, "e1"]
    assert found.drop("event_id").schema == pl.Schema(INTERACTIONS.schema)
    assert lake.event_positions("user-events") == {0: 3}


def test_a_value_out_of_its_range_or_type_is_named() -> None:
    view = VIEWS["movie_activity"]
    good = pl.DataFrame(
        {"movie_id": [1], "watch_count": [1], "mean_user_rating": [4.0], "event_timestamp": [NOON]}
    )
    assert check_view(view, good).height == 1
    with pytest.raises(FeatureError, match=r"movie_activity\.mean_user_rating has 9"):
        check_view(view, good.with_columns(mean_user_rating=pl.lit(9.0)))
    with pytest.raises(FeatureError, match=r"movie_activity\.watch_count is Float64"):
        check_view(view, good.with_columns(watch_count=pl.lit(1.0)))
