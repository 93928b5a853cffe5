"""Interactions as one relation, and what they say of films at each moment.

The SQL is DuckDB's and runs on every table engine (`data/engine.py`).
"""

import polars as pl

from movie_mlops.data.engine import POSITION, Tables
from movie_mlops.data.lake import Lake
from movie_mlops.data.tables import INTERACTIONS
from movie_mlops.domain.interactions import (
    MAX_RATING,
    MIN_RATING,
    POSITIVE_RATING,
    InteractionType,
    is_positive,
)

EVENT_TOPIC = "user-events"
COLUMNS = {**INTERACTIONS.schema, "event_id": pl.String()}

_ACTS = ", ".join(f"'{kind}'" for kind in InteractionType if is_positive(kind, None))
POSITIVE = (
    f"(interaction_type IN ({_ACTS}) OR "
    f"(interaction_type = 'rating' AND COALESCE(rating >= {POSITIVE_RATING}, FALSE)))"
)
"""The rule of `domain.interactions.is_positive` on columns."""

ORDER = "timestamp, line, user_id, movie_id, interaction_type"
"""Time, then line; the rest of the key makes it one order on every engine."""

_EVENT_ROWS = f"""
    SELECT CAST(user_id AS VARCHAR) AS user_id, CAST(movie_id AS BIGINT) AS movie_id,
        CAST(interaction_type AS VARCHAR) AS interaction_type, CAST(rating AS DOUBLE) AS rating,
        "timestamp", {POSITION} + {1 << 60} AS line, event_id
    FROM (
        SELECT *, row_number() OVER (PARTITION BY event_id ORDER BY {POSITION}) AS n FROM events
    ) AS numbered
    WHERE n = 1 AND interaction_type <> 'undo' AND event_id NOT IN (
        SELECT target_event_id FROM events
        WHERE interaction_type = 'undo' AND target_event_id IS NOT NULL
    )"""  # noqa: S608 - constants; lines of the source are below 2^60: its rows come first

MOVIE_ACTIVITY = f"""
    WITH acts AS (
        SELECT movie_id, user_id, "timestamp", line, interaction_type, rating,
            {POSITIVE} AS is_positive
        FROM interactions WHERE {POSITIVE} OR rating IS NOT NULL
    ), votes AS (
        SELECT movie_id, user_id, "timestamp", line, interaction_type, rating,
            CASE WHEN is_positive AND SUM(CASE WHEN is_positive THEN 1 ELSE 0 END) OVER mine = 1
                THEN 1 ELSE 0 END AS is_first,
            LAST_VALUE(rating IGNORE NULLS) OVER (
                PARTITION BY user_id, movie_id ORDER BY {ORDER}
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
        FROM acts WINDOW mine AS (PARTITION BY user_id, movie_id ORDER BY {ORDER})
    ), sums AS (
        SELECT movie_id, "timestamp", SUM(is_first) OVER so_far AS viewers,
            SUM(CASE WHEN rating IS NOT NULL AND before IS NULL THEN 1 ELSE 0 END)
                OVER so_far AS votes,
            SUM(CASE WHEN rating IS NULL THEN 0 ELSE rating - COALESCE(before, 0) END)
                OVER so_far AS total,
            LEAD("timestamp") OVER in_order AS following
        FROM votes
        WINDOW in_order AS (PARTITION BY movie_id ORDER BY {ORDER}),
            so_far AS (PARTITION BY movie_id ORDER BY {ORDER}
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    )
    SELECT movie_id, CAST(viewers AS BIGINT) AS watch_count,
        CASE WHEN votes > 0 THEN LEAST(GREATEST(CAST(total AS DOUBLE) / votes, {MIN_RATING}),
            {MAX_RATING}) END AS mean_user_rating,
        "timestamp" + INTERVAL 1 MICROSECOND AS event_timestamp
    FROM sums WHERE following IS DISTINCT FROM "timestamp"
    """  # noqa: S608 - constants
"""Viewers and mean rating per film after each positive act or rating, of `interactions`.

A person counts once per film, with the latest rating, however often he acts. A row is valid from
one microsecond after the act it counts, so that a point-in-time join at the act itself never sees
it; of acts at one moment the last one's row stays.
"""


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
        with lake.local.open() as tables:
            tables.read("events", events, numbered=True)
            kept = tables.frame(_EVENT_ROWS)
        frames.append(kept.select(pl.col(name).cast(kind) for name, kind in COLUMNS.items()))
    if not frames:
        return pl.DataFrame(schema=COLUMNS)
    return pl.concat(frames).sort("timestamp", "line", maintain_order=True)


def define_interactions(tables: Tables, sources: set[str]) -> None:
    """Name `interactions`: rows of `source` and of the numbered `events`, as far as there are.

    The rows are those of `all_interactions`, in no order.
    """
    columns = ", ".join(f'"{name}"' for name in INTERACTIONS.schema)
    parts = []
    if "source" in sources:
        parts.append(f"SELECT {columns} FROM source")  # noqa: S608
    if "events" in sources:
        parts.append(f"SELECT {columns} FROM ({_EVENT_ROWS}) AS kept")  # noqa: S608
    if not parts:
        tables.read("interactions", pl.DataFrame(schema=INTERACTIONS.schema))
        return
    tables.define("interactions", " UNION ALL ".join(parts))


def is_positive_expression() -> pl.Expr:
    """The same rule for frames."""
    return pl.sql_expr(POSITIVE)
