"""Facts of films from the movies table."""

MOVIE_FEATURES = """
    SELECT movie_id, vote_average AS rating, vote_count, popularity, genres[1] AS genre,
        CAST(array_length(genres) AS BIGINT) AS genre_count, year, runtime,
        collected_at AS event_timestamp
    FROM movies CROSS JOIN collected"""
"""One row per film, valid from when the catalogue was collected (`collected.collected_at`)."""
