"""Histories as flat arrays: made from a table, read per user."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from movie_mlops.domain.interactions import POSITIVE_RATING, InteractionType, hides_film
from movie_mlops.models.algorithms.base import Arrays

ACT_COLUMNS = {"movies": "i8", "times": "i8", "positive": "b1", "tokens": "i8"}
ARRAYS = {"users": "u1", "user_ends": "i8", "ends": "i8", **ACT_COLUMNS}


class SnapshotHistories:
    """The histories of a snapshot as flat arrays; acts of one user are in order of time."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = {name: arrays[name] for name in ARRAYS}
        blob = arrays["users"].tobytes()
        ends = arrays["user_ends"].tolist()
        starts = [0, *ends[:-1]] if ends else []
        names = [blob[start:end].decode() for start, end in zip(starts, ends, strict=True)]
        self.rows = {name: row for row, name in enumerate(names)}
        self.ends = arrays["ends"].tolist()
        self.acts = [np.asarray(arrays[f"{name}"]) for name in ACT_COLUMNS]
        self.newest = int(self.acts[1].max(initial=-1))  # microseconds since 1970

    def span(self, user_id: str) -> slice:
        """Where the user's acts stand in the columns of `acts`."""
        row = self.rows.get(user_id)
        if row is None:
            return slice(0, 0)
        return slice(self.ends[row - 1] if row else 0, self.ends[row])


def acts_by_film(interactions: pl.DataFrame) -> pl.DataFrame:
    """user_id, movie_id, event, time, positive: by user in order of time, then line."""
    kind, rating, liked = pl.col("interaction_type"), pl.col("rating"), pl.col("positive")
    hiding = [str(name) for name in InteractionType if hides_film(name)]
    rated = (kind == "rating") & (rating >= POSITIVE_RATING).fill_null(value=False)
    has_ids = "event_id" in interactions.columns
    event = pl.col("event_id").fill_null("") if has_ids else pl.lit("")
    return (
        interactions.filter(kind.is_in(hiding))
        .sort("timestamp", "line")
        .with_row_index("order")
        .with_columns(
            positive=kind.is_in(["watch", "like"]) | rated,
            time=pl.col("timestamp").dt.epoch("us"),
            event=event,
        )
        .group_by("user_id", "movie_id", "event")
        .agg(
            pl.coalesce(pl.col("order").filter(liked).max(), pl.col("order").max()),
            pl.coalesce(pl.col("time").filter(liked).max(), pl.col("time").max()),
            liked.any(),
        )
        .sort("user_id", "order")
    )


def flatten(acts: pl.DataFrame) -> Arrays:
    """The acts of `acts_by_film` as arrays."""
    counts = acts.group_by("user_id", maintain_order=True).len()
    tokens = [token_of(event) if event else 0 for event in acts["event"].to_list()]
    columns = {
        "movies": acts["movie_id"].to_numpy(),
        "times": acts["time"].to_numpy(),
        "positive": acts["positive"].to_numpy(),
        "tokens": tokens,
    }
    return flat_arrays(counts["user_id"].to_list(), counts["len"].cum_sum().to_list(), columns)


def flat_arrays(names: Sequence[str], ends: Sequence[int], acts: Mapping[str, Any]) -> Arrays:
    """The arrays of these users; user u's acts end at `ends[u]` of every column."""
    encoded = [name.encode() for name in names]
    columns = {f"{name}": np.array(acts[name], dtype) for name, dtype in ACT_COLUMNS.items()}
    return {
        "users": np.frombuffer(b"".join(encoded), np.uint8),
        "user_ends": np.cumsum([len(name) for name in encoded], dtype=np.int64),
        "ends": np.array(ends, np.int64),
        **columns,
    }


def without_user(arrays: Mapping[str, NDArray[Any]], user_id: str) -> tuple[Arrays, int]:
    """The arrays without a user, and how many of his acts were in them."""
    known = SnapshotHistories(arrays)
    names = list(known.rows)
    if user_id not in known.rows:
        return dict(arrays), 0
    gone, row = known.span(user_id), known.rows[user_id]
    length = gone.stop - gone.start
    ends = [end - length * (place > row) for place, end in enumerate(known.ends) if place != row]
    columns = zip(ACT_COLUMNS, known.acts, strict=True)
    acts = {name: np.delete(column, gone) for name, column in columns}
    return flat_arrays([name for name in names if name != user_id], ends, acts), length


def token_of(event_id: str) -> int:
    """A number that stands for an event id; never 0, which means none."""
    digest = blake2b(event_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1 | 1
