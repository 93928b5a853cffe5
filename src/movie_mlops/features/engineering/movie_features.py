"""Facts of films from the movies table."""

from datetime import datetime

import polars as pl


def build_movie_features(movies: pl.DataFrame, collected_at: datetime) -> pl.DataFrame:
    """One row per film, valid from when the catalogue was collected."""
    return movies.select(
        "movie_id",
        rating="vote_average",
        vote_count="vote_count",
        popularity="popularity",
        genre=pl.col("genres").list.first(),
        genre_count=pl.col("genres").list.len().cast(pl.Int64),
        year="year",
        runtime="runtime",
        event_timestamp=pl.lit(collected_at).cast(pl.Datetime("us", "UTC")),
    )
