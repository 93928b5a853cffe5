"""What is known of viewers at each moment of their history."""

from movie_mlops.domain.movies import GENRES
from movie_mlops.features.engineering.interaction_features import ORDER, POSITIVE

_BASE = 64
"""More than there are genres: a count and a place in the list as one number."""
_PLACES = ", ".join(f"('{name}', {_BASE - 1 - place})" for place, name in enumerate(GENRES))
_NAMES = " ".join(f"WHEN {_BASE - 1 - place} THEN '{name}'" for place, name in enumerate(GENRES))

USER_FEATURES = f"""
    WITH facts AS (
        SELECT movie_id, priority
        FROM movies INNER JOIN (VALUES {_PLACES}) AS listed (genre, priority)
            ON movies.genres[1] = listed.genre
    ), acts AS (
        SELECT user_id, interactions.movie_id, "timestamp", line, interaction_type, rating,
            CASE WHEN {POSITIVE} THEN 1 ELSE 0 END AS is_positive,
            CASE WHEN {POSITIVE} THEN priority END AS liked
        FROM interactions LEFT JOIN facts ON interactions.movie_id = facts.movie_id
    ), ranked AS (
        SELECT *, CASE WHEN liked IS NOT NULL THEN {_BASE} * row_number() OVER (
                PARTITION BY user_id, liked ORDER BY {ORDER}) + liked END AS strength
        FROM acts
    ), sums AS (
        SELECT user_id, "timestamp", MAX(strength) OVER so_far AS strongest,
            row_number() OVER in_order AS acts, COUNT(rating) OVER so_far AS ratings,
            SUM(rating) OVER so_far AS total, SUM(is_positive) OVER so_far AS positives,
            LEAD("timestamp") OVER in_order AS following
        FROM ranked
        WINDOW in_order AS (PARTITION BY user_id ORDER BY {ORDER}),
            so_far AS (PARTITION BY user_id ORDER BY {ORDER}
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    )
    SELECT sums.user_id, people.age,
        CASE strongest % {_BASE} {_NAMES} END AS genre_preference,
        CAST(acts AS BIGINT) AS interaction_count,
        CASE WHEN ratings > 0 THEN total / ratings END AS mean_rating,
        CAST(positives AS DOUBLE) / acts AS positive_share,
        "timestamp" + INTERVAL 1 MICROSECOND AS event_timestamp
    FROM sums LEFT JOIN people ON sums.user_id = people.user_id
    WHERE following IS DISTINCT FROM "timestamp"
    """  # noqa: S608 - constants
"""One row per user and act of `interactions`, valid from one microsecond after the act.

`genre_preference` is the main genre of most positive acts so far; ties go to the first of the
genre list: a genre's count only grows, so the greatest (count, place) so far tells it. Age comes
from `people`, else it is null.
"""
