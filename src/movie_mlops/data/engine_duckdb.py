"""Table work in this process: DuckDB in memory, bounded, spilling to disk."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import duckdb
import polars as pl

MEMORY_LIMIT = "1GB"


def connect(spill: Path) -> duckdb.DuckDBPyConnection:
    """Open DuckDB in memory, bounded to 1 GB, spilling into the folder; the zone is UTC."""
    spill.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": str(spill),
            "autoinstall_known_extensions": "false",
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection


class DuckDbTables:
    """The relations of one connection; names come from our own code, never from a user."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def read(
        self, name: str, source: pl.DataFrame | Sequence[Path], *, numbered: bool = False
    ) -> None:
        """Name a frame, or the rows of Parquet files."""
        number = "row_number() OVER () AS _position, " if numbered else ""
        if isinstance(source, pl.DataFrame):
            self._connection.register(f"{name}_arrow", source.to_arrow())
            self.define(name, f"SELECT {number}* FROM {name}_arrow")  # noqa: S608
            return
        files = ", ".join(quoted(path) for path in source)
        whence = f"read_parquet([{files}], union_by_name = true)"
        self.define(name, f"SELECT {number}* FROM {whence}")  # noqa: S608

    def define(self, name: str, query: str) -> None:
        """Name a query."""
        self._connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {query}")

    def keep(self, name: str, query: str) -> None:
        """Run a query once and name its rows."""
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")

    def columns(self, name: str) -> dict[str, str]:
        """Column names to types."""
        described = self._connection.execute(f"DESCRIBE SELECT * FROM {name}").fetchall()  # noqa: S608
        return {str(column).lower(): str(kind) for column, kind, *_ in described}

    def frame(self, query: str) -> pl.DataFrame:
        """The rows of a query."""
        found = pl.from_arrow(self._connection.sql(query).to_arrow_table())
        assert isinstance(found, pl.DataFrame)  # noqa: S101 (an Arrow table is a frame)
        return found

    def write(self, query: str, target: Path) -> None:
        """Write the rows of a query."""
        self._connection.execute(
            f"COPY ({query}) TO {quoted(target)} (FORMAT parquet, COMPRESSION zstd)"
        )


class DuckDbEngine:
    """DuckDB on the cores of this machine."""

    name: ClassVar[str] = "duckdb"

    def __init__(self, spill: Path) -> None:
        self._spill = spill

    @contextmanager
    def open(self) -> Iterator[DuckDbTables]:
        """Begin a piece of work in a connection of its own."""
        with connect(self._spill) as connection:
            yield DuckDbTables(connection)

    @contextmanager
    def over(
        self, connection: duckdb.DuckDBPyConnection, relation: str
    ) -> Iterator[tuple[DuckDbTables, str]]:
        """Work where the rows lie."""
        yield DuckDbTables(connection), relation

    def close(self) -> None:
        """Nothing runs on."""


def quoted(path: Path) -> str:
    """A path as a literal of SQL."""
    return "'" + str(path).replace("'", "''") + "'"
