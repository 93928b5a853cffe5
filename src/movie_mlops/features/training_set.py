"""The labelled training frame: every act with the features as they were just before it."""

import polars as pl

from movie_mlops.features.engineering.interaction_features import is_positive_expression
from movie_mlops.features.store import FeatureStore
from movie_mlops.features.views import VIEWS


def build_training_set(store: FeatureStore, interactions: pl.DataFrame) -> pl.DataFrame:
    """Label (was it positive) and point-in-time features per interaction, in the given order.

    As many rows as interactions; a feature that no row was valid for is null.

    Raises:
        FeatureError: the join lost or invented rows.
    """
    entities = interactions.select(
        "user_id",
        "movie_id",
        event_timestamp="timestamp",
        label=is_positive_expression().cast(pl.Int64),
    )
    features = [f"{view.name}:{f.name}" for view in VIEWS.values() for f in view.features]
    return store.get_historical(entities, features)
