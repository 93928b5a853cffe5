"""What is known of viewers at each moment of their history."""

import polars as pl

from movie_mlops.domain.movies import GENRES
from movie_mlops.features.engineering.interaction_features import (
    is_positive_expression,
    running_mean,
    valid_from,
)


def build_user_features(
    interactions: pl.DataFrame, movies: pl.DataFrame, people: pl.DataFrame | None
) -> pl.DataFrame:
    """One row per user and act, valid from one microsecond after the act.

    `genre_preference` is the main genre of most positive acts so far; ties go to the first of
    the genre list. Age comes from the people table where there is one, else it is null.
    """
    genre = movies.select("movie_id", genre=pl.col("genres").list.first())
    ages = (
        people.select("user_id", "age")
        if people is not None
        else pl.DataFrame(schema={"user_id": pl.String, "age": pl.Int64})
    )
    positive = is_positive_expression()
    counts = [
        (positive & (pl.col("genre") == name)).cast(pl.Int32).cum_sum().over("user_id").alias(name)
        for name in GENRES
    ]
    acts = (
        interactions.join(genre, on="movie_id", how="left", maintain_order="left")
        .sort("timestamp", "line")
        .with_columns(counts)
    )
    liked = pl.concat_list(GENRES)
    return (
        acts.join(ages, on="user_id", how="left", maintain_order="left")
        .select(
            "user_id",
            "age",
            genre_preference=pl.when(liked.list.max() > 0).then(
                liked.list.arg_max().replace_strict(
                    dict(enumerate(GENRES)), return_dtype=pl.String, default=None
                )
            ),
            interaction_count=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("user_id"),
            mean_rating=running_mean("rating", "user_id"),
            positive_share=running_mean_of(positive.cast(pl.Float64)),
            event_timestamp=valid_from(),
        )
        .unique(["user_id", "event_timestamp"], keep="last", maintain_order=True)
    )


def running_mean_of(values: pl.Expr) -> pl.Expr:
    """Mean so far per user of an expression that is never null."""
    return values.cum_sum().over("user_id") / pl.int_range(1, pl.len() + 1).over("user_id")
