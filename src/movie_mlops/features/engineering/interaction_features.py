"""Interactions as one frame, and what they say of films at each moment."""

import polars as pl

from movie_mlops.data.lake import Lake
from movie_mlops.data.tables import INTERACTIONS
from movie_mlops.domain.interactions import MAX_RATING, MIN_RATING, POSITIVE_RATING

EVENT_TOPIC = "user-events"


def all_interactions(lake: Lake) -> pl.DataFrame:
    """Every interaction of the home, sorted by time, then line.

    The columns of the table and `event_id`, which is null for the source's rows. Events come
    after the source's rows of the same instant. An event counts once; an event that another one
    undid does not count at all.
    """
    frames = []
    if lake.exists(INTERACTIONS.name):
        source = lake.read(INTERACTIONS.name)
        frames.append(source.with_columns(event_id=pl.lit(None, pl.String)))
    events = lake.events(EVENT_TOPIC)
    if len(events):
        frames.append(_from_events(events))
    if not frames:
        return pl.DataFrame(schema={**INTERACTIONS.schema, "event_id": pl.String()})
    return pl.concat(frames).sort("timestamp", "line", maintain_order=True)


def _from_events(events: pl.DataFrame) -> pl.DataFrame:
    undone = events.filter(pl.col("interaction_type") == "undo").get_column("target_event_id")
    kept = (
        events.unique("event_id", keep="first", maintain_order=True)
        .filter(pl.col("interaction_type") != "undo")
        .filter(~pl.col("event_id").is_in(undone.drop_nulls().to_list()))
    )
    # lines of the source are below 2^40, so its rows come first in an instant
    return kept.with_columns(line=(1 << 40) + pl.int_range(pl.len(), dtype=pl.Int64)).select(
        *INTERACTIONS.schema, "event_id"
    )


def build_movie_activity(interactions: pl.DataFrame) -> pl.DataFrame:
    """Viewers and mean rating per film after each positive act or rating.

    A person counts once per film, with the latest rating, however often he acts. A row is valid
    from one microsecond after the act it counts, so that a point-in-time join at the act itself
    never sees it.
    """
    positive, rating, mine = is_positive_expression(), pl.col("rating"), ["user_id", "movie_id"]
    is_first = positive & (positive.cast(pl.Int64).cum_sum().over(mine) == 1)
    before = rating.forward_fill().shift(1).over(mine)  # the person's own rating until now
    votes = (rating.is_not_null() & before.is_null()).cast(pl.Int64).cum_sum().over("movie_id")
    total = (rating - before.fill_null(0.0)).fill_null(0.0).cum_sum().over("movie_id")
    return (
        interactions.filter(positive | rating.is_not_null())
        .sort("timestamp", "line")
        .select(
            "movie_id",
            watch_count=is_first.cast(pl.Int64).cum_sum().over("movie_id"),
            mean_user_rating=pl.when(votes > 0).then(total / votes).clip(MIN_RATING, MAX_RATING),
            event_timestamp=valid_from(),
        )
        .unique(["movie_id", "event_timestamp"], keep="last", maintain_order=True)
    )


def is_positive_expression() -> pl.Expr:
    """The rule of `domain.interactions.is_positive` on columns."""
    kind, rating = pl.col("interaction_type"), pl.col("rating")
    rated = (kind == "rating") & (rating >= POSITIVE_RATING).fill_null(value=False)
    return kind.is_in(["watch", "like"]) | rated


def valid_from() -> pl.Expr:
    """One microsecond after the act."""
    return (pl.col("timestamp") + pl.duration(microseconds=1)).cast(pl.Datetime("us", "UTC"))


def running_mean(column: str, entity: str) -> pl.Expr:
    """Mean of the values so far per entity; null before the first."""
    total = pl.col(column).fill_null(0.0).cum_sum().over(entity)
    count = pl.col(column).is_not_null().cast(pl.Int64).cum_sum().over(entity)
    return pl.when(count > 0).then(total / count)
