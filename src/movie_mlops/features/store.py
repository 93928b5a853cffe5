"""Feast behind a few verbs: definitions, apply, materialize, online and historical reads."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, redirect_stdout
from datetime import UTC, datetime, timedelta
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from movie_mlops.domain.errors import (
    EngineUnavailableError,
    EntityNotFoundError,
    FeatureError,
    FeatureViewNotFoundError,
)
from movie_mlops.features.online import PASSWORD_KEY, PROJECT, open_online_store
from movie_mlops.features.server import FeatureServer
from movie_mlops.features.views import FEATURE_SERVICES, JOIN_KEYS, VIEWS, Dtype, EntityName

REGISTRY = "../var/feast_registry.db"
CONFIGURATION = "feature_store.yaml"
_BEGINNING = datetime(1970, 1, 2, tzinfo=UTC)

_MARK = "# Feast's configuration, written from the settings; without this line it stays as it is."
FEATURE_STORE_YAML = f"""\
{_MARK}
# Paths are relative to this folder.
project: {PROJECT}
provider: local
registry: {REGISTRY}
online_store:
{{online}}offline_store:
  type: duckdb
entity_key_serialization_version: 3
"""
FEATURE_FILES = "../data/features"
DEFINITIONS_PY = '''\
"""Feast's objects, made from `movie_mlops/features/views.py`."""

from movie_mlops.features.store import feast_objects

globals().update(feast_objects())
'''


class FeatureStore:
    """The feature repository of one home; Feast is imported when first used."""

    def __init__(
        self,
        repository: Path,
        online_store_url: str = "sqlite:../var/online.db",
        password: str | None = None,
        server_url: str = "",
        files: str = FEATURE_FILES,
    ) -> None:
        self._repository = repository
        self._files = files
        self._url, self._password, self._server_url = online_store_url, password, server_url
        self._online = open_online_store(repository, online_store_url, password)

    def write_repository(self) -> None:
        """Write configuration and definitions into the repository folder.

        The configuration follows the settings unless somebody took its first line away.
        """
        self._repository.mkdir(parents=True, exist_ok=True)
        path = self._repository / CONFIGURATION
        wanted = FEATURE_STORE_YAML.format(online=self._online.configuration())
        there = path.read_text() if path.exists() else _MARK
        if there.startswith(_MARK) and there != wanted:
            path.write_text(wanted)
        definitions = self._repository / "definitions.py"
        if not definitions.exists():
            definitions.write_text(DEFINITIONS_PY)

    def apply(self) -> None:
        """Register entities, views and services; the feature files must be there."""
        self._forget()
        self.write_repository()
        with _translated("apply"):
            self._feast.apply(list(feast_objects(self._files).values()))

    def materialize(self) -> None:
        """Bring the latest values into the online store."""
        with _translated("materialize"), chdir(self._repository):  # DuckDB reads from here
            self._feast.materialize(_BEGINNING, datetime.now(UTC) + timedelta(seconds=1))
        materialized_into(self._repository).write_text(self._url)

    @property
    def materialized_at(self) -> datetime | None:
        """When the online store was last filled from here; None: never."""
        try:
            filled = materialized_into(self._repository).stat().st_mtime
        except FileNotFoundError:
            return None
        return datetime.fromtimestamp(filled, UTC)

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
            found = (
                self._server.get_online(features, entities)
                if self._server_url
                else self._feast.get_online_features(
                    features=list(features), entity_rows=[dict(row) for row in entities]
                ).to_dict()
            )
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
        """Take an entity out of the online store; how many values it had.

        Raises:
            EngineUnavailableError: the store does not answer.
        """
        views = [view.name for view in VIEWS.values() if view.entity == entity]
        with _translated("erase"):
            return self._online.erase(JOIN_KEYS[entity][0], key, views)

    def ping(self) -> None:
        """Return when features can be read, else raise EngineUnavailableError."""
        if self._server_url:
            self._server.ping()
            return
        with _translated("open"):
            self._feast.list_feature_views()

    def close(self) -> None:
        """Close the connections to Feast's server."""
        if "_server" in self.__dict__:
            self._server.close()

    def _forget(self) -> None:
        self.__dict__.pop("_feast", None)

    @cached_property
    def _server(self) -> FeatureServer:
        return FeatureServer(self._server_url)

    @cached_property
    def _feast(self) -> Any:
        from feast import FeatureStore as Feast  # noqa: PLC0415 (seconds to import)
        from feast.repo_config import RepoConfig  # noqa: PLC0415

        text = (self._repository / CONFIGURATION).read_text()
        text = text.replace(f"${{{PASSWORD_KEY}}}", self._password or "")
        config = RepoConfig(**yaml.safe_load(text))
        config.repo_path = self._repository
        return Feast(repo_path=str(self._repository), config=config)


def materialized_into(repository: Path) -> Path:
    """The file that names the online store which was filled last; none: never filled."""
    return repository.parent / "var" / "online_store"


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


def feast_objects(files: str = FEATURE_FILES) -> dict[str, Any]:
    """Feast's entities, views and services by name, made from `views.py`.

    `files` is the folder of the feature files as seen from the repository.
    """
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
                path=f"{files}/{name}.parquet",
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
