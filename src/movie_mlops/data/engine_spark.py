"""Table work on Spark: DuckDB's SQL translated, Parquet in and out."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl

import polars as pl

from movie_mlops.data.spark_sql import duckdb_type, to_spark
from movie_mlops.domain.errors import ConfigurationError, EngineUnavailableError

if TYPE_CHECKING:
    import duckdb

FILE_BITS = 40
"""A row's number lies below 2^40; the number of its file stands above."""

_LOGGING = """\
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n
"""
_SETTINGS = {
    "spark.driver.memory": "2g",
    "spark.sql.adaptive.enabled": "true",
    "spark.sql.ansi.enabled": "false",  # as in DuckDB an index past the end is NULL, no error
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "16",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}


class SparkTables:
    """The relations of one Spark session; what is kept lies in a folder of its own."""

    def __init__(self, session: Any, folder: Path) -> None:
        self.session = session
        self._folder = folder
        self._made = 0

    def read(
        self, name: str, source: pl.DataFrame | Sequence[Path], *, numbered: bool = False
    ) -> None:
        """Name a frame (by way of a file), or the rows of Parquet files."""
        if isinstance(source, pl.DataFrame):
            file = self._path(f"{name}.parquet")
            source.write_parquet(file)
            source = [file]
        with translated(f"read {name}"):
            rows = self.session.read.option("mergeSchema", "true").parquet(*map(str, source))
            if numbered:
                rows = rows.selectExpr(f"{_number(source)} AS _position", "*")
            rows.createOrReplaceTempView(name)

    def define(self, name: str, query: str) -> None:
        """Name a query."""
        with translated(f"define {name}"):
            self.sql(query).createOrReplaceTempView(name)

    def keep(self, name: str, query: str) -> None:
        """Run a query once into a folder of Parquet files."""
        folder = self._path(name)
        with translated(f"compute {name}"):
            self.sql(query).write.parquet(str(folder))
            self.session.read.parquet(str(folder)).createOrReplaceTempView(name)

    def columns(self, name: str) -> dict[str, str]:
        """Column names to DuckDB's names of their types."""
        with translated(f"describe {name}"):
            fields = self.session.table(name).schema.fields
        return {field.name.lower(): duckdb_type(field.dataType.simpleString()) for field in fields}

    def frame(self, query: str) -> pl.DataFrame:
        """The rows of a query, brought here."""
        with translated("answer"):
            found = pl.from_arrow(self.sql(query).toArrow())
        assert isinstance(found, pl.DataFrame)  # noqa: S101 (an Arrow table is a frame)
        return found

    def write(self, query: str, target: Path) -> None:
        """Write the rows in parallel, then join the parts into one file, batch by batch."""
        folder = self._path("written")
        with translated(f"write {target.name}"):
            self.sql(query).write.parquet(str(folder))
        _join_parts(folder, target)
        shutil.rmtree(folder)

    def sql(self, query: str) -> Any:
        """The DataFrame of a query in DuckDB's dialect."""
        return self.session.sql(to_spark(query))

    def _path(self, name: str) -> Path:
        self._made += 1
        return self._folder / f"{self._made}-{name}"


class SparkEngine:
    """Spark by its master; the session starts with the first piece of work."""

    name: ClassVar[str] = "spark"

    def __init__(self, master: str, spill: Path) -> None:
        self._master, _, settings = master.partition("?")
        self._settings = dict(parse_qsl(settings))
        self._spill = spill.absolute()
        self._lock = Lock()

    @contextmanager
    def open(self) -> Iterator[SparkTables]:
        """Begin a piece of work in a session of its own."""
        with self._lock:
            session = self._spark
        with tempfile.TemporaryDirectory(prefix="spark-", dir=self._spill) as folder:
            yield SparkTables(session.newSession(), Path(folder))

    @contextmanager
    def over(
        self, connection: "duckdb.DuckDBPyConnection", relation: str
    ) -> Iterator[tuple[SparkTables, str]]:
        """Bring the staged rows to Spark by way of a file, numbered."""
        with self.open() as tables, tempfile.TemporaryDirectory(dir=self._spill) as folder:
            file = Path(folder) / "staged.parquet"
            name = str(file).replace("'", "''")
            connection.execute(
                f"COPY (SELECT *, row_number() OVER () AS _position FROM {relation}) "  # noqa: S608
                f"TO '{name}' (FORMAT parquet)"
            )
            tables.read("staged", [file])
            yield tables, "staged"

    def close(self) -> None:
        """Stop the session that was started."""
        with self._lock:
            if "_spark" in self.__dict__:
                self.__dict__.pop("_spark").stop()

    @cached_property
    def _spark(self) -> Any:
        if find_spec("pyspark") is None:
            message = "TABLE_ENGINE_URL=spark: needs pyspark: pip install 'movie-mlops[spark]'"
            raise ConfigurationError(message)
        from pyspark.errors import PySparkException  # noqa: PLC0415 (the extra `spark`)
        from pyspark.sql import SparkSession  # noqa: PLC0415

        self._spill.mkdir(parents=True, exist_ok=True)
        builder = SparkSession.builder.master(self._master).appName("movie-mlops")
        for key, value in (self._own_settings() | self._settings).items():
            builder = builder.config(key, value)
        try:
            session = builder.getOrCreate()
        except PySparkException as error:
            message = (
                f"Spark does not start on {self._master}: it needs Java 17 or newer (`java` on the "
                f"PATH, or JAVA_HOME): {error}"
            )
            raise ConfigurationError(message) from error
        session.sparkContext.setLogLevel("ERROR")
        return session

    def _own_settings(self) -> dict[str, str]:
        logging = self._spill / "log4j2.properties"
        logging.write_text(_LOGGING)
        own = _SETTINGS | {
            "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={logging.as_uri()}",
            "spark.pyspark.python": sys.executable,
            "spark.sql.warehouse.dir": str(self._spill / "warehouse"),
        }
        if self._master.startswith("local"):
            own |= {
                "spark.driver.bindAddress": "127.0.0.1",
                "spark.driver.host": "127.0.0.1",
                "spark.local.dir": str(self._spill),
            }
        return own


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Spark's errors as ours."""
    from py4j.protocol import Py4JError  # noqa: PLC0415 (comes with pyspark)
    from pyspark.errors import PySparkException  # noqa: PLC0415 (the extra `spark`)

    try:
        yield
    except (PySparkException, Py4JError) as error:
        message = f"Spark could not {what}: {str(error).strip()[:500]}"
        raise EngineUnavailableError(message) from error


def _number(files: Sequence[Path]) -> str:
    names = ", ".join("'" + file.name.replace("'", "\\'") + "'" for file in files)
    plain = "url_decode(replace(_metadata.file_name, '+', '%2B'))"
    place = f"array_position(array({names}), {plain})"
    return f"shiftleft({place}, {FILE_BITS}) + _metadata.row_index"


def _join_parts(folder: Path, target: Path) -> None:
    import pyarrow.parquet as pq  # noqa: PLC0415 (only Spark's files need joining)

    parts = sorted(folder.glob("part-*.parquet"))
    with pq.ParquetWriter(target, pq.read_schema(parts[0]), compression="zstd") as writer:
        for part in parts:
            with pq.ParquetFile(part) as rows:
                for batch in rows.iter_batches():
                    writer.write_batch(batch)
