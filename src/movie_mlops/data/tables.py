"""The contract of every table: columns, types, allowed values, key.

Predicates are DuckDB SQL over the row's columns; a row that fails one goes to quarantine with
its reason. A value that cannot be read as its column's type is a reason too; empty text is NULL.
"""

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `predicate` must be true or the value NULL (NULL fails when `required`)."""

    name: str
    dtype: pl.DataType
    description: str
    predicate: str | None = None
    reason: str | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """One table; rows are unique by `key`, of two rows with one key the first stays.

    Rows lie sorted by `order`, then as the source had them; without `order` as the source had them.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    order: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """Column name to Polars type, in order."""
        return {column.name: column.dtype for column in self.columns}


TEXT, INT, FLOAT, BOOL = pl.String(), pl.Int64(), pl.Float64(), pl.Boolean()
TEXTS = pl.List(pl.String())
TIME = pl.Datetime("us", "UTC")

MOVIE_ID = Column(
    "movie_id", INT, "TMDB id; 10^9 + the source's id where there is none.",
    "movie_id BETWEEN 1 AND 9007199254740991", "movie_id out of range", required=True,
)  # fmt: skip
USER_ID = Column(
    "user_id", TEXT, "Opaque id of a viewer.",
    "length(user_id) BETWEEN 1 AND 128 AND NOT regexp_matches(user_id, '[[:cntrl:]]')",
    "user_id too long or with control characters", required=True,
)  # fmt: skip

MOVIES = Table(
    "movies",
    "One row per film of the catalogue.",
    (
        MOVIE_ID,
        Column("title", TEXT, "Title in the source's language.",
               "length(title) BETWEEN 1 AND 500 AND NOT regexp_matches(title, '[[:cntrl:]]')",
               "title too long or with control characters", required=True),
        Column("title_en", TEXT, "English title.", "length(title_en) <= 500", "title_en too long"),
        Column("title_ko", TEXT, "Korean title.", "length(title_ko) <= 500", "title_ko too long"),
        Column("original_title", TEXT, "Title in the film's own language.",
               "length(original_title) <= 500", "original_title too long"),
        Column("year", INT, "Year of release.",
               "year BETWEEN 1874 AND 2100", "year outside 1874-2100"),
        Column("runtime", INT, "Minutes.", "runtime BETWEEN 1 AND 1440", "runtime outside 1-1440"),
        Column("genres", TEXTS, "TMDB genre names, the main one first.",
               "array_length(genres) <= 20", "more than 20 genres", required=True),
        Column("overview", TEXT, "The plot in a sentence or two.",
               "length(overview) <= 20000", "overview too long"),
        Column("overview_en", TEXT, "The plot in English where the source has both.",
               "length(overview_en) <= 20000", "overview_en too long"),
        Column("directors", TEXTS, "Directors.", "array_length(directors) <= 100",
               "too many directors", required=True),
        Column("cast", TEXTS, "Leading actors, first billed first.",
               'array_length("cast") <= 500', "too many actors", required=True),
        Column("vote_average", FLOAT, "Mean rating 0-10; NULL without votes.",
               "vote_average BETWEEN 0 AND 10 AND isfinite(vote_average)",
               "vote_average outside 0-10"),
        Column("vote_count", INT, "Number of ratings.", "vote_count >= 0", "vote_count negative",
               required=True),
        Column("popularity", FLOAT, "The source's popularity figure, higher is more popular.",
               "popularity >= 0 AND isfinite(popularity)", "popularity negative or not finite",
               required=True),
        Column("adult", BOOL, "Adult flag.", required=True),
        Column("poster_url", TEXT, "Poster by URL; NULL where one is drawn.",
               "length(poster_url) <= 2000", "poster_url too long"),
        Column("imdb_id", TEXT, "IMDb id (tt...).",
               "regexp_full_match(imdb_id, 'tt[0-9]{5,12}')", "imdb_id malformed"),
    ),
    key=("movie_id",),
)  # fmt: skip

INTERACTIONS = Table(
    "interactions",
    "What people did with films, in order of time, then line.",
    (
        USER_ID,
        MOVIE_ID,
        Column("interaction_type", TEXT, "watch, rating, like, dislike, view, click.",
               "interaction_type IN ('view','click','watch','rating','like','dislike')"
               " AND (interaction_type <> 'rating' OR rating IS NOT NULL)",
               "unknown interaction_type, or a rating without its value", required=True),
        Column("rating", FLOAT, "0.5-5; NULL where nothing was rated.",
               "rating BETWEEN 0.5 AND 5 AND isfinite(rating)", "rating outside 0.5-5"),
        Column("timestamp", TIME, "When, UTC.",
               "timestamp BETWEEN TIMESTAMPTZ '1990-01-01 00:00:00+00' AND now() + INTERVAL 1 DAY",
               "timestamp before 1990 or in the future", required=True),
        Column("line", INT, "Position in the source; breaks ties of time.", "line >= 0",
               "line negative", required=True),
    ),
    key=("user_id", "movie_id", "interaction_type", "timestamp"),
    order=("timestamp", "line"),
)  # fmt: skip

PEOPLE = Table(
    "people",
    "Simulated people: who the page lets you be.",
    (
        USER_ID,
        Column("name", TEXT, "English name.", "length(name) BETWEEN 1 AND 100", "name empty",
               required=True),
        Column("name_ko", TEXT, "Korean name."),
        Column("age", INT, "Years.", "age BETWEEN 3 AND 120", "age outside 3-120"),
        Column("taste", TEXT, "One line on what they like, English."),
        Column("taste_ko", TEXT, "One line on what they like, Korean."),
    ),
    key=("user_id",),
)  # fmt: skip

WATCH_LOG = Table(
    "watch_log",
    "The guide's simulation: watch seconds per user and film.",
    (
        Column("user_id", INT, "User number from 0.", "user_id >= 0", "user_id negative",
               required=True),
        Column("content_id", INT, "Film id.", "content_id >= 1", "content_id out of range",
               required=True),
        Column("watch_seconds", INT, "Seconds watched.", "watch_seconds BETWEEN 0 AND 7200",
               "watch_seconds outside 0-7200", required=True),
        Column("rating", FLOAT, "The film's rating 0-10.",
               "rating BETWEEN 0 AND 10 AND isfinite(rating)", "rating outside 0-10",
               required=True),
        Column("popularity", FLOAT, "The film's popularity.",
               "popularity >= 0 AND isfinite(popularity)", "popularity negative or not finite",
               required=True),
    ),
    key=("user_id", "content_id"),
)  # fmt: skip

TABLES = {table.name: table for table in (MOVIES, INTERACTIONS, PEOPLE, WATCH_LOG)}
