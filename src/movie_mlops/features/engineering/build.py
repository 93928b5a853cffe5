"""All feature views, computed from the tables, checked, and written as Parquet."""

from datetime import UTC, datetime

import polars as pl

from movie_mlops.data.lake import Lake, replacing
from movie_mlops.domain.errors import FeatureError
from movie_mlops.features.engineering.interaction_features import (
    all_interactions,
    build_movie_activity,
)
from movie_mlops.features.engineering.movie_features import build_movie_features
from movie_mlops.features.engineering.user_features import build_user_features
from movie_mlops.features.views import JOIN_KEYS, VIEWS, Dtype, View

DTYPES: dict[Dtype, pl.DataType] = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "text": pl.String(),
    "bool": pl.Boolean(),
}


def build_features(lake: Lake) -> dict[str, int]:
    """Write `features/<view>.parquet` for each view; return its number of rows.

    Raises:
        FeatureError: a computed column is missing, of another type, or out of its range.
    """
    movies, interactions = lake.read("movies"), all_interactions(lake)
    people = lake.read("people") if lake.exists("people") else None
    collected_at = datetime.fromtimestamp(lake.path("movies").stat().st_mtime, UTC)
    frames = {
        "movie_features": build_movie_features(movies, collected_at),
        "movie_activity": build_movie_activity(interactions),
        "user_features": build_user_features(interactions, movies, people),
    }
    created = pl.lit(datetime.now(UTC)).cast(pl.Datetime("us", "UTC"))
    rows = {}
    for name, view in VIEWS.items():
        frame = check_view(view, frames[name]).with_columns(created_timestamp=created)
        with replacing(lake.features / f"{name}.parquet") as partial:
            frame.write_parquet(partial)
        rows[name] = len(frame)
    return rows


def check_view(view: View, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame in the view's columns and types.

    Raises:
        FeatureError: as above, naming view and feature.
    """
    key, key_dtype = JOIN_KEYS[view.entity]
    wanted = {key: DTYPES[key_dtype]} | {f.name: DTYPES[f.dtype] for f in view.features}
    for name, dtype in wanted.items():
        if frame.schema.get(name) != dtype:
            message = f"{view.name}.{name} is {frame.schema.get(name)}, its definition says {dtype}"
            raise FeatureError(message)
    for feature in view.features:
        bounds = (
            (feature.low, pl.col(feature.name).min()),
            (feature.high, pl.col(feature.name).max()),
        )
        for place, (bound, expression) in enumerate(bounds):
            found = frame.select(expression).item() if bound is not None else None
            if found is None or bound is None:
                continue
            if (found < bound) if place == 0 else (found > bound):
                message = f"{view.name}.{feature.name} has {found}, its range ends at {bound}"
                raise FeatureError(message)
    return frame.select(*wanted, "event_timestamp")
