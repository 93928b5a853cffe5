"""Every feature, once: its view, type, range and meaning. Feast's objects are made from this."""

from dataclasses import dataclass
from typing import Literal

Dtype = Literal["int", "float", "text", "bool"]
EntityName = Literal["movie", "user"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One column; `low` and `high` bound numbers, ends included; every value may be null."""

    name: str
    dtype: Dtype
    description: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """Features of one entity; rows carry `event_timestamp`, from which on they are valid.

    The version goes up when a feature's meaning changes.
    """

    name: str
    entity: EntityName
    version: int
    description: str
    features: tuple[Feature, ...]


JOIN_KEYS: dict[EntityName, tuple[str, Dtype]] = {
    "movie": ("movie_id", "int"),
    "user": ("user_id", "text"),
}

VIEWS = {
    view.name: view
    for view in (
        View(
            "movie_features",
            "movie",
            1,
            "Facts of the catalogue, valid from when they were collected.",
            (
                Feature("rating", "float", "The source's mean rating, 0-10.", 0, 10),
                Feature("vote_count", "int", "Number of the source's ratings.", 0),
                Feature("popularity", "float", "The source's popularity figure.", 0),
                Feature("genre", "text", "Main genre."),
                Feature("genre_count", "int", "Number of genres.", 0, 20),
                Feature("year", "int", "Year of release.", 1874, 2100),
                Feature("runtime", "int", "Minutes.", 1, 1440),
            ),
        ),
        View(
            "movie_activity",
            "movie",
            1,
            "What people did with a film so far, after each act.",
            (
                Feature("watch_count", "int", "People with a positive act so far.", 0),
                Feature("mean_user_rating", "float", "Mean of people's latest ratings.", 0.5, 5),
            ),
        ),
        View(
            "user_features",
            "user",
            1,
            "A viewer so far, after each act.",
            (
                Feature("age", "int", "Years, where the source has it.", 3, 120),
                Feature("genre_preference", "text", "Main genre liked most often so far."),
                Feature("interaction_count", "int", "Acts so far.", 0),
                Feature("mean_rating", "float", "Mean rating given so far.", 0.5, 5),
                Feature("positive_share", "float", "Share of positive acts so far.", 0, 1),
            ),
        ),
    )
}

FEATURE_SERVICES = {"recommendation_v1": tuple(VIEWS)}
"""Name to views: what a model of this version reads."""
