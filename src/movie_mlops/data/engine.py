"""Where table work runs, chosen by URL: DuckDB in this process, or Spark.

A query is written once, as DuckDB SQL; an engine that speaks another dialect translates it.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import polars as pl

from movie_mlops.domain.errors import ConfigurationError

if TYPE_CHECKING:
    import duckdb

POSITION = "_position"
"""The column of a numbered relation that tells the order of its rows."""


class Tables(Protocol):
    """The named relations of one piece of work; they are gone when it ends."""

    def read(
        self, name: str, source: pl.DataFrame | Sequence[Path], *, numbered: bool = False
    ) -> None:
        """Name a frame, or the rows of Parquet files (of different file names), columns by name.

        `numbered` adds `_position`, which rises with the files as listed and their rows.
        """
        ...

    def define(self, name: str, query: str) -> None:
        """Name a query; it runs anew wherever the name is used."""
        ...

    def keep(self, name: str, query: str) -> None:
        """Run a query once and name its rows."""
        ...

    def columns(self, name: str) -> dict[str, str]:
        """Column names in lower case to DuckDB's names of their types."""
        ...

    def frame(self, query: str) -> pl.DataFrame:
        """The rows of a query in memory."""
        ...

    def write(self, query: str, target: Path) -> None:
        """Write the rows of a query, in its order, as one Parquet file with microsecond times."""
        ...


class TableEngine(Protocol):
    """What computes tables. Made at once; whatever is slow to start starts with the first use.

    Its methods raise EngineUnavailableError when a distributed engine fails.
    """

    name: ClassVar[str]

    def open(self) -> AbstractContextManager[Tables]:
        """Begin a piece of work.

        Raises:
            ConfigurationError: the engine is not installed.
        """
        ...

    def over(
        self, connection: "duckdb.DuckDBPyConnection", relation: str
    ) -> AbstractContextManager[tuple[Tables, str]]:
        """Begin work on what lies staged in a DuckDB connection; how the relation is named there.

        Raises:
            ConfigurationError: as `open`.
            duckdb.Error: the source cannot be read.
        """
        ...

    def close(self) -> None:
        """Stop what was started."""
        ...


def open_table_engine(url: str, spill: Path) -> TableEngine:
    """The engine of a URL: `duckdb:`, or `spark:MASTER[?SETTING=VALUE&…]`.

    Args:
        url: the master is Spark's own, e.g. `local[2]` or `spark://HOST:PORT`; the settings are
            Spark's own too and win over ours.
        spill: the folder of what does not fit into memory; Spark's workers must see it too.

    Raises:
        ConfigurationError: no such engine.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "duckdb" and not rest:
        from movie_mlops.data.engine_duckdb import DuckDbEngine  # noqa: PLC0415 (30 MB)

        return DuckDbEngine(spill)
    if scheme == "spark" and rest:
        from movie_mlops.data.engine_spark import SparkEngine  # noqa: PLC0415 (sqlglot)

        return SparkEngine(rest, spill)
    message = f"TABLE_ENGINE_URL: no engine {url!r}; there are duckdb: and spark:MASTER"
    raise ConfigurationError(message)
