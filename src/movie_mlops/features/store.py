"""Feast behind a few verbs: definitions, apply, materialize, online and historical reads."""

import sqlite3
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, closing, contextmanager, redirect_stdout
from datetime import UTC, datetime, timedelta
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl

from movie_mlops.domain.errors import (
    EngineUnavailableError,
    EntityNotFoundError,
    FeatureError,
    FeatureViewNotFoundError,
)
from movie_mlops.features.views import FEATURE_SERVICES, JOIN_KEYS, VIEWS, Dtype, EntityName

PROJECT = "movie_mlops"
REGISTRY = "../var/feast_registry.db"
_BEGINNING = datetime(1970, 1, 2, tzinfo=UTC)

FEATURE_STORE_YAML = f"""\
# Feast's configuration; paths are relative to this folder.
project: {PROJECT}
provider: local
registry: {REGISTRY}
online_store:
  type: sqlite
  path: {{online}}
offline_store:
  type: duckdb
entity_key_serialization_version: 3
"""
DEFINITIONS_PY = '''\
"""Feast's objects, made from `movie_mlops/features/views.py`."""

from movie_mlops.features.store import feast_objects

globals().update(feast_objects())
'''


class FeatureStore:
    """The feature repository of one home; Feast is imported when first used."""

    def __init__(self, repository: Path, online_store_url: str = "sqlite:../var/online.db") -> None:
        self._repository = repository
        self._online = online_store_url.partition(":")[2]

    def write_repository(self) -> None:
        """Write configuration and definitions into the repository folder where they are missing."""
        self._repository.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("feature_store.yaml", FEATURE_STORE_YAML.format(online=self._online)),
            ("definitions.py", DEFINITIONS_PY),
        ):
            path = self._repository / name
            if not path.exists():
                path.write_text(text)

    def apply(self) -> None:
        """Register entities, views and services; the feature files must be there."""
        self._forget()
        self.write_repository()
        with _translated("apply"):
            self._feast.apply(list(feast_objects().values()))

    def materialize(self) -> None:
        """Bring the latest values into the online store."""
        with _translated("materialize"), chdir(self._repository):  # DuckDB reads from here
            self._feast.materialize(_BEGINNING, datetime.now(UTC) + timedelta(seconds=1))

    def get_online(
        self, features: Sequence[str], entities: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """One row per entity; features as `view:name`. What is not known is None.

        Raises:
            FeatureViewNotFoundError: no such view or feature.
            EngineUnavailableError: the store cannot be read.
        """
        for feature in features:
            check_feature(feature)
        with _translated("read"):
            found = self._feast.get_online_features(
                features=list(features), entity_rows=[dict(row) for row in entities]
            ).to_dict()
        names = [feature.partition(":")[2] for feature in features]
        return [{name: found[name][row] for name in names} for row in range(len(entities))]

    def get_entity(self, entity: str, key: int | str, features: Sequence[str]) -> dict[str, Any]:
        """The features (`view:name`) of one entity.

        Raises:
            EntityNotFoundError: the store has no value at all for it.
        """
        (row,) = self.get_online(features, [{JOIN_KEYS[entity][0]: key}])  # type: ignore[index]
        if all(value is None for value in row.values()):
            message = f"no features of {entity} {key!r}; they come with the next materialization"
            raise EntityNotFoundError(message)
        return row

    def get_historical(self, entities: pl.DataFrame, features: Sequence[str]) -> pl.DataFrame:
        """Features as they were at each row's `event_timestamp`; as many rows as were asked.

        Raises:
            FeatureError: the engine returned another number of rows.
        """
        with _translated("join"), chdir(self._repository):  # DuckDB reads from here
            asked = entities.with_row_index("asked_row").to_pandas()
            found = pl.from_arrow(
                self._feast.get_historical_features(asked, list(features)).to_arrow()
            )
        assert isinstance(found, pl.DataFrame)  # noqa: S101 (an Arrow table is a frame)
        if len(found) != len(entities):
            message = f"asked for {len(entities)} rows, the offline store gave {len(found)}"
            raise FeatureError(message)
        return found.sort("asked_row").drop("asked_row")

    def erase(self, entity: EntityName, key: str) -> int:
        """Take an entity out of the online store (SQLite); how many values it had."""
        encoded = key.encode()
        # Feast's serialization 3 ends with the length of the value and the value
        ending = struct.pack("<I", len(encoded)) + encoded
        gone = 0
        if not Path(self._online).is_file():
            return 0
        with _translated("erase"), closing(sqlite3.connect(self._online)) as connection:
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            there = {name for (name,) in found.fetchall()}
            for view in (view for view in VIEWS.values() if view.entity == entity):
                if (table := f"{PROJECT}_{view.name}") in there:
                    query = f'DELETE FROM "{table}" WHERE substr(entity_key, ?) = ?'  # noqa: S608 (ours)
                    gone += connection.execute(query, (-len(ending), ending)).rowcount
            connection.commit()
        return gone

    def ping(self) -> None:
        """Return when the repository can be opened, else raise EngineUnavailableError."""
        with _translated("open"):
            self._feast.list_feature_views()

    def _forget(self) -> None:
        self.__dict__.pop("_feast", None)

    @cached_property
    def _feast(self) -> Any:
        from feast import FeatureStore as Feast  # noqa: PLC0415 (seconds to import)

        return Feast(repo_path=str(self._repository))


def entity_features(entity: str) -> list[str]:
    """Every feature of an entity as `view:name`.

    Raises:
        FeatureViewNotFoundError: no such entity.
    """
    found = [
        f"{view.name}:{feature.name}"
        for view in VIEWS.values()
        if view.entity == entity
        for feature in view.features
    ]
    if not found:
        message = f"no features of {entity!r}; there are those of {' and '.join(JOIN_KEYS)}"
        raise FeatureViewNotFoundError(message)
    return found


def check_feature(feature: str) -> None:
    """Raise FeatureViewNotFoundError unless `view:name` is defined."""
    view, _, name = feature.partition(":")
    if view not in VIEWS or name not in {known.name for known in VIEWS[view].features}:
        message = f"no feature {feature[:100]!r}; docs/reference/features.md lists them all"
        raise FeatureViewNotFoundError(message)


def feast_objects() -> dict[str, Any]:
    """Feast's entities, views and services by name, made from `views.py`."""
    import feast  # noqa: PLC0415 (seconds to import)
    from feast import types  # noqa: PLC0415

    kinds: dict[Dtype, Any] = {
        "int": types.Int64,
        "float": types.Float64,
        "text": types.String,
        "bool": types.Bool,
    }
    entities = {
        str(name): feast.Entity(name=name, join_keys=[key], value_type=kinds[dtype].to_value_type())
        for name, (key, dtype) in JOIN_KEYS.items()
    }
    views = {}
    for name, view in VIEWS.items():
        key, key_dtype = JOIN_KEYS[view.entity]
        views[name] = feast.FeatureView(
            name=name,
            entities=[entities[view.entity]],
            ttl=timedelta(0),
            schema=[
                feast.Field(name=key, dtype=kinds[key_dtype]),
                *(
                    feast.Field(name=f.name, dtype=kinds[f.dtype], description=f.description)
                    for f in view.features
                ),
            ],
            source=feast.FileSource(
                name=f"{name}_file",
                path=f"../data/features/{name}.parquet",
                timestamp_field="event_timestamp",
                created_timestamp_column="created_timestamp",
            ),
            description=view.description,
            tags={"version": str(view.version)},
        )
    services = {
        name: feast.FeatureService(name=name, features=[views[view] for view in chosen])
        for name, chosen in FEATURE_SERVICES.items()
    }
    return {**entities, **views, **services}


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Feast's errors as ours; its chatter and the warnings of the engines below it are kept off."""
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    except (FeatureError, EngineUnavailableError):
        raise
    except Exception as error:
        message = f"the feature store could not {what}: {error}"
        raise EngineUnavailableError(message) from error
