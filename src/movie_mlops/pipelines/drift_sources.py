"""What is watched for drift: what people do, and what they were answered, as two windows each."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl

from movie_mlops.data.lake import Lake
from movie_mlops.events.base import partition_of
from movie_mlops.events.schemas import TOPICS, USER_EVENTS
from movie_mlops.features.engineering.interaction_features import (
    all_interactions,
    is_positive_expression,
)
from movie_mlops.monitoring.drift_windows import Family, Feature, Window, cut

ACTS = (
    Feature("genre", "features", "categorical"),
    Feature("popularity", "features", "numeric"),
    Feature("era", "features", "numeric"),
    Feature("activity", "features", "numeric"),
    Feature("interaction", "features", "categorical"),
    Feature("rating", "feedback", "numeric"),
    Feature("approval", "feedback", "categorical"),
    Feature("click", "feedback", "categorical"),
)
"""`activity` is how much one person does in one piece of time."""
ANSWERS = (
    Feature("path", "predictions", "categorical"),
    Feature("shown_genre", "predictions", "categorical"),
    Feature("shown_popularity", "predictions", "numeric"),
)
RATINGS = (Feature("predicted_rating", "predictions", "numeric"),)
WATCHED = tuple(feature.name for feature in (*ACTS, *ANSWERS, *RATINGS))


class Frames(NamedTuple):
    """Rows before and now: `who`, `timestamp`, and a column per feature, null where it has none.

    `seconds` is the length of the current window.
    """

    features: tuple[Feature, ...]
    reference: pl.DataFrame
    current: pl.DataFrame
    seconds: float

    @property
    def end(self) -> datetime | None:
        """When the latest row of the current window was."""
        end: datetime | None = self.current.get_column("timestamp").max()  # type: ignore[assignment]
        return end


class Trained(NamedTuple):
    """What a model has seen: events below these offsets, and rows up to a moment."""

    positions: dict[int, int]
    until: datetime | None


def acts(lake: Lake, trained: Trained, window: timedelta, now: datetime) -> Frames:
    """What people did before and after the model was trained; the latest `window` of it.

    The current window ends with the last act (or now, if that says it is later), so a check says
    the same until something happens.
    """
    rows = all_interactions(lake).filter(pl.col("timestamp") <= now)
    rows = rows.with_columns(seen=_seen(rows, lake.events(USER_EVENTS), trained))
    fresh = rows.filter(~pl.col("seen"))
    films = lake.read("movies")
    return windows(ACTS, described(rows.filter("seen"), films), described(fresh, films), window)


def windows(
    features: tuple[Feature, ...], before: pl.DataFrame, after: pl.DataFrame, window: timedelta
) -> Frames:
    """The latest `window` of what came after, or what came since when that is shorter."""
    times = after.get_column("timestamp")
    begin, end = before.get_column("timestamp").max(), times.max()
    if not isinstance(end, datetime):
        return Frames(features, before, after, window.total_seconds())
    since = end - begin if isinstance(begin, datetime) and begin < end else window
    if since < timedelta(seconds=1):  # rows are as old as what was learnt: a replay
        since = window
    return Frames(
        features,
        before,
        after.filter(times > end - window),
        min(since, window).total_seconds(),
    )


def described(interactions: pl.DataFrame, films: pl.DataFrame) -> pl.DataFrame:
    """The watched quantities of each act; those of films only where the act is positive."""
    facts = films.select(
        "movie_id", "popularity", genre=pl.col("genres").list.first(), era=pl.col("year")
    )
    kind = pl.col("interaction_type")
    positive = is_positive_expression()
    return interactions.join(facts, on="movie_id", how="left", maintain_order="left").select(
        "timestamp",
        who=pl.col("user_id"),
        genre=pl.when(positive).then("genre"),
        popularity=pl.when(positive).then("popularity"),
        era=pl.when(positive).then("era"),
        interaction=kind,
        rating=pl.when(kind == "rating").then("rating"),
        approval=pl.when(kind.is_in(["like", "dislike"])).then(kind),
        click=pl.when(kind.is_in(["view", "click"])).then(kind),
    )


def answered(shown: pl.DataFrame, films: pl.DataFrame) -> pl.DataFrame:
    """The watched quantities of lists: one row per shown film, the path on a list's first.

    `shown` has `who`, `timestamp`, `path` and `items`.
    """
    facts = films.select(
        pl.col("movie_id").alias("items"),
        shown_genre=pl.col("genres").list.first(),
        shown_popularity=pl.col("popularity"),
    )
    rows = shown.with_row_index("list").explode("items", empty_as_null=True)
    first = pl.col("list").is_first_distinct()
    return (
        rows.with_columns(path=pl.when(first).then("path"))
        .join(facts, on="items", how="left", maintain_order="left")
        .drop("list", "items")
    )


def family(frames: Frames, watched: Sequence[str]) -> Family:
    """The frames as blocks; only the watched features."""
    features = tuple(feature for feature in frames.features if feature.name in watched)
    before, now = frames.reference, frames.current
    who = pl.concat([before.get_column("who"), now.get_column("who")]).rank("dense").to_numpy()
    people = who[: len(before)].astype(np.int64)
    _, present, block_now = np.unique(
        who[len(before) :].astype(np.int64), return_index=True, return_inverse=True
    )
    people_now = who[len(before) :].astype(np.int64)[present]
    pace = (len(now), len(people_now), frames.seconds)
    kept, block, owner = cut(people, _seconds(before), pace)
    names = [feature.name for feature in features]
    reference = Window(owner, _values(before[kept], block, names))
    current = Window(people_now, _values(now, block_now.astype(np.int64), names))
    return Family(features, reference, current)


def _values(
    frame: pl.DataFrame, block: np.ndarray, names: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    found = {}
    for name in names:
        if name == "activity":
            sizes = np.bincount(block)
            found[name] = (np.arange(len(sizes)), sizes)
        elif name in frame.columns:
            there = frame.get_column(name).is_not_null().to_numpy()
            found[name] = (block[there], frame.get_column(name).drop_nulls().to_numpy())
    return found


def _seconds(frame: pl.DataFrame) -> np.ndarray:
    return frame.get_column("timestamp").dt.epoch("us").to_numpy() / 1e6


def _seen(rows: pl.DataFrame, events: pl.DataFrame, trained: Trained) -> pl.Series:
    """Which rows the model was trained on: the source's by time, events by position."""
    is_source = pl.col("event_id").is_null()
    early = pl.lit(True) if trained.until is None else pl.col("timestamp") <= trained.until
    seen = rows.select(is_source & early).to_series()
    if not len(events):
        return seen
    users = events.get_column("user_id").unique()
    places = {user: partition_of(user, TOPICS[USER_EVENTS]) for user in users}
    known = events.select(
        "event_id",
        learnt=pl.col("offset")
        < pl.col("user_id")
        .replace_strict(places, return_dtype=pl.Int64)
        .replace_strict(trained.positions, default=0, return_dtype=pl.Int64),
    ).unique("event_id", keep="first")
    learnt = rows.join(known, on="event_id", how="left", maintain_order="left")
    return seen | learnt.get_column("learnt").fill_null(value=False)
