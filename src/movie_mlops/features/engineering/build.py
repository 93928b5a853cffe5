"""All feature views, computed from the tables by a table engine, checked, written as Parquet."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import polars as pl

from movie_mlops.data.engine import TableEngine, Tables
from movie_mlops.data.lake import Lake
from movie_mlops.data.tables import INTERACTIONS, PEOPLE, TIME
from movie_mlops.domain.errors import FeatureError
from movie_mlops.features.engineering.interaction_features import (
    EVENT_TOPIC,
    MOVIE_ACTIVITY,
    define_interactions,
)
from movie_mlops.features.engineering.movie_features import MOVIE_FEATURES
from movie_mlops.features.engineering.user_features import USER_FEATURES
from movie_mlops.features.views import JOIN_KEYS, VIEWS, Dtype, View

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)

DTYPES: dict[Dtype, pl.DataType] = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "text": pl.String(),
    "bool": pl.Boolean(),
}
QUERIES = {
    "movie_features": MOVIE_FEATURES,
    "movie_activity": MOVIE_ACTIVITY,
    "user_features": USER_FEATURES,
}
"""View to the query of `movies`, `people`, `interactions` and `collected` that computes it."""


def build_features(lake: Lake, engine: TableEngine | None = None) -> dict[str, int]:
    """Write `features/<view>.parquet` for each view; return its number of rows.

    Args:
        lake: where the tables lie.
        engine: what computes; DuckDB in this process when None.

    Raises:
        FeatureError: a computed column is missing, of another type, or out of its range.
        EngineUnavailableError: the engine fails.
    """
    opened = (engine or lake.local).open()
    with lake.pinned(INTERACTIONS.name, EVENT_TOPIC) as files, opened as tables:
        _read(tables, lake, files)
        return {name: _write(tables, lake, view) for name, view in VIEWS.items()}


def check_view(view: View, frame: Frame) -> Frame:
    """The frame in the view's columns and types.

    Raises:
        FeatureError: as above, naming view and feature.
    """
    key, key_dtype = JOIN_KEYS[view.entity]
    wanted = {key: DTYPES[key_dtype]} | {f.name: DTYPES[f.dtype] for f in view.features}
    schema = frame.lazy().collect_schema()
    for name, dtype in wanted.items():
        if schema.get(name) != dtype:
            message = f"{view.name}.{name} is {schema.get(name)}, its definition says {dtype}"
            raise FeatureError(message)
    extremes = [
        found.alias(f"{end}_{feature.name}")
        for feature in view.features
        if feature.low is not None or feature.high is not None
        for end, found in (
            ("low", pl.col(feature.name).min()),
            ("high", pl.col(feature.name).max()),
        )
    ]
    _check_ranges(view, frame.lazy().select(extremes).collect(engine="streaming"))
    return frame.select(*wanted, "event_timestamp")


def _check_ranges(view: View, extremes: pl.DataFrame) -> None:
    for feature in view.features:
        for end, bound in (("low", feature.low), ("high", feature.high)):
            found = extremes.item(0, f"{end}_{feature.name}") if bound is not None else None
            if found is None or bound is None:
                continue
            if (found < bound) if end == "low" else (found > bound):
                message = f"{view.name}.{feature.name} has {found}, its range ends at {bound}"
                raise FeatureError(message)


def _read(tables: Tables, lake: Lake, files: dict[str, list[Path]]) -> None:
    people = lake.read("people") if lake.exists("people") else pl.DataFrame(schema=PEOPLE.schema)
    collected = datetime.fromtimestamp(lake.path("movies").stat().st_mtime, UTC)
    tables.read("movies", lake.read("movies"))
    tables.read("people", people)
    tables.read("collected", pl.DataFrame({"collected_at": [collected]}, {"collected_at": TIME}))
    sources = {
        name: files[given]
        for name, given in (("source", INTERACTIONS.name), ("events", EVENT_TOPIC))
        if files[given]
    }
    for name, paths in sources.items():
        tables.read(name, paths, numbered=name == "events")
    define_interactions(tables, set(sources))


def _write(tables: Tables, lake: Lake, view: View) -> int:
    created = datetime.now(UTC).isoformat(sep=" ")
    tables.define(view.name, QUERIES[view.name])
    wanted = [JOIN_KEYS[view.entity][0], *(feature.name for feature in view.features)]
    there = tables.columns(view.name)  # a column that is missing is told by the check
    columns = ", ".join(name for name in (*wanted, "event_timestamp") if name in there)
    with lake.replacing(lake.features / f"{view.name}.parquet") as partial:
        tables.write(
            f"SELECT {columns}, TIMESTAMPTZ '{created}' AS created_timestamp FROM {view.name}",  # noqa: S608
            partial,
        )
        written = check_view(view, pl.scan_parquet(partial, glob=False))
        return int(written.select(pl.len()).collect().item())
