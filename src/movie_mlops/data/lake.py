"""The lake: raw files, checked tables, event files and quarantine, in a folder or a bucket."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from movie_mlops.data.engine import TableEngine, Tables, open_table_engine
from movie_mlops.data.event_files import event_file_of
from movie_mlops.data.files import holding, pin, replacing
from movie_mlops.data.object_store import ObjectStore
from movie_mlops.data.tables import Table
from movie_mlops.data.validators import (
    CHECKED,
    ORIGINAL_ROW,
    ValidationReport,
    check,
    columns_sql,
    from_json_sql,
    require_quality,
)
from movie_mlops.domain.errors import EngineUnavailableError, SourceFormatError

if TYPE_CHECKING:
    import duckdb

USER_COLUMN = "user_id"
_FULL = ("no space left", "file too large", "disk quota", "could not write", "failed to offload")


class Lake:
    """Tables and raw files of one home.

    Layout: `raw/<source>/…`, `processed/<table>.parquet`,
    `processed/events/<topic>-<partition>-<first>-<last>.parquet`,
    `quarantine/<table>/<batch>.parquet`, `features/`, `predictions/`. Rows of viewers of whom
    `is_erased` is true are taken into no table. With a `store`, `root` is its working copy: each
    read asks the store first, each write is done when the store has it, and both raise what
    `ObjectStore` raises.
    """

    def __init__(
        self,
        root: Path,
        is_erased: Callable[[str], bool] | None = None,
        engine: Callable[[], TableEngine] | None = None,
        store: ObjectStore | None = None,
    ) -> None:
        self.root = root
        self._store = store
        self._is_erased = is_erased
        self._open_engine = engine

    def raw(self, source: str) -> Path:
        """The folder of a source's files; made when it is not there.

        What is written into it is kept by `raw_written`.
        """
        folder = self.root / "raw" / source
        self.pull(f"raw/{source}")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def raw_written(self, source: str) -> None:
        """Keep what was written into `raw(source)`."""
        if self._store is not None:
            self._store.push(f"raw/{source}")

    def pull(self, *folders: str) -> None:
        """Make these folders (all when none is named) as in the store, where there is one."""
        if self._store is not None:
            self._store.pull(*folders)

    def replacing(self, target: Path) -> AbstractContextManager[Path]:
        """As `files.replacing`, for a file of the lake; with a store, written when that has it."""
        return replacing(target, self._store.place if self._store else Path.replace)

    def remove(self, path: Path) -> None:
        """Take a file of the lake away."""
        if self._store is not None:
            self._store.remove(path)
        else:
            path.unlink(missing_ok=True)

    @property
    def processed(self) -> Path:
        """The folder of the checked tables."""
        return self.root / "processed"

    @property
    def features(self) -> Path:
        """The folder of feature files."""
        return self.root / "features"

    @property
    def predictions(self) -> Path:
        """The folder of what models predicted for everybody; no part of a snapshot."""
        return self.root / "predictions"

    def path(self, name: str) -> Path:
        """Where the table of this name lies or would lie."""
        return self.processed / f"{name}.parquet"

    def exists(self, name: str) -> bool:
        """Whether the table was ever written."""
        self._look(self.path(name))
        return self.path(name).is_file()

    def read(self, name: str) -> pl.DataFrame:
        """The whole table.

        Raises:
            FileNotFoundError: it was never written.
        """
        self._look(self.path(name))
        return _read_once(self.path(name))

    @property
    def spill(self) -> Path:
        """The folder of what does not fit into memory."""
        return self.root / "tmp"

    @property
    def local(self) -> TableEngine:
        """DuckDB on what the lake holds."""
        return open_table_engine("duckdb:", self.spill)

    def connect(self) -> "duckdb.DuckDBPyConnection":
        """Open DuckDB in memory to stage rows: bounded to 1 GB, spilling; the zone is UTC.

        Close it, or use it in a `with`.
        """
        # 30 MB that whoever only reads tables does without
        from movie_mlops.data.engine_duckdb import connect  # noqa: PLC0415

        return connect(self.spill)

    @contextmanager
    def pinned(self, table: str, topic: str) -> Iterator[dict[str, list[Path]]]:
        """Files of a table and of a topic's events, in order, that stay as they are in the block.

        By both names; no file where there is none. Two event files may overlap.
        """
        self.spill.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.spill) as folder:
            files = [self.path(table)] if self.exists(table) else []
            pinned = {table: [pin(file, Path(folder)) for file in files]}
            with holding(self.root):  # a merge takes files away
                events = sorted(self._event_files(topic).items(), key=lambda item: item[1])
                pinned[topic] = [pin(file, Path(folder)) for file, _ in events]
            yield pinned

    def replace(
        self,
        table: Table,
        connection: "duckdb.DuckDBPyConnection",
        relation: str | None = None,
        *,
        source: str = "",
    ) -> ValidationReport:
        """Check the staged rows and put them in the place of the table.

        Rows that fail go to quarantine with their reason, of two rows with one key the second.
        The same bad rows make the same quarantine file, so a repeated run adds nothing.

        Args:
            table: the contract.
            connection: where the rows are staged (`connect`).
            relation: the staged relation; `raw_<table>` when None.
            source: kept with each quarantined row.

        Raises:
            DataQualityError: empty, a required column is missing, or over 20 % of rows are bad.
            SourceFormatError: the source cannot be read to its end.
            EngineUnavailableError: the disk is full or does not write.
            In each case the last good data stays and no part of the new one remains.
        """
        with _source_errors(table.name):
            engine = self._open_engine() if self._open_engine is not None else self.local
            with engine.over(connection, relation or f"raw_{table.name}") as (tables, name):
                report = check(tables, table, name)
                require_quality(report)
                with _disk_errors(table.name):
                    self._write_quarantine(table, tables, f"'{source.replace(chr(39), '')}'")
                    self._write_table(table, tables)
        return report

    def replay_quarantine(self, table: Table) -> ValidationReport:
        """Check quarantined rows again and merge those that pass now; the rest stays there.

        The table's own rows win over replayed ones of the same key. Counts of the report are of
        the replayed rows; `rows_out` of them were merged.

        Raises:
            EngineUnavailableError: the disk is full or does not write.
        """
        self.pull(f"quarantine/{table.name}")
        files = sorted(self._quarantine(table).glob("*.parquet"))
        if not files:
            return ValidationReport(table.name, 0, 0)
        with self.connect() as connection:
            connection.execute(
                "CREATE TEMP TABLE bad AS SELECT row, any_value(source) AS source "
                "FROM read_parquet($1) GROUP BY row ORDER BY row",
                [[str(file) for file in files]],
            )
            staged = f"SELECT {from_json_sql(table, 'row')}, row AS {ORIGINAL_ROW} FROM bad"  # noqa: S608
            if self.exists(table.name):
                existing = str(self.path(table.name)).replace("'", "''")
                staged = (
                    f"SELECT *, NULL AS {ORIGINAL_ROW} FROM read_parquet('{existing}') "  # noqa: S608
                    f"UNION ALL BY NAME {staged}"
                )
            before = self._rows(table)
            connection.execute(f"CREATE TEMP VIEW replayed AS {staged}")
            with _source_errors(table.name), self.local.over(connection, "replayed") as (tables, _):
                report = check(tables, table, "replayed")
                with _disk_errors(table.name):
                    if report.rows_out:
                        self._write_table(table, tables)
                    kept = self._write_quarantine(
                        table, tables, "(SELECT source FROM bad WHERE bad.row = c.row)"
                    )
        for file in files:
            if file != kept:
                self.remove(file)
        return ValidationReport(
            table.name, report.rows_in - before, report.rows_out - before, report.quarantined
        )

    def append_events(
        self, topic: str, partition: int, first: int, last: int, frame: pl.DataFrame
    ) -> Path:
        """Keep the events of positions first…last; the same positions again overwrite.

        Files of the partition that lie wholly inside the range are taken away.

        Raises:
            EngineUnavailableError: the disk is full or does not write.
        """
        target = self.processed / "events" / f"{topic}-{partition}-{first}-{last}.parquet"
        with _disk_errors(target.name), self.replacing(target) as partial:
            frame.write_parquet(partial)
        for file, (other, start, end) in self._event_files(topic).items():
            if other == partition and first <= start and end <= last and file != target:
                self.remove(file)
        return target

    def events(self, topic: str) -> pl.DataFrame:
        """All kept events of a topic by partition and position; empty when there are none.

        An event that two overlapping files hold (by `event_id`) counts once.
        """
        if not self._event_files(topic):
            return pl.DataFrame()
        with holding(self.root):  # a merge takes files away
            files = sorted(self._event_files(topic).items(), key=lambda item: item[1])
            frames = [_read_once(file) for file, _ in files]
        joined = pl.concat(frames, how="diagonal_relaxed")
        if "event_id" in joined.columns:
            joined = joined.unique("event_id", keep="first", maintain_order=True)
        return joined

    def event_positions(self, topic: str) -> dict[int, int]:
        """Partition to the next position that no kept file holds."""
        positions: dict[int, int] = {}
        for partition, _, last in self._event_files(topic).values():
            positions[partition] = max(positions.get(partition, 0), last + 1)
        return positions

    def latest_event_file(self, topic: str, partition: int) -> Path | None:
        """The file of a partition that holds its latest positions."""
        spans = {
            file: last
            for file, (at, _, last) in self._event_files(topic).items()
            if at == partition
        }
        return max(spans, key=spans.__getitem__) if spans else None

    def _event_files(self, topic: str) -> dict[Path, tuple[int, int, int]]:
        self.pull("processed/events")
        found = {}
        for file in (self.processed / "events").glob("*.parquet"):
            event_file = event_file_of(file.name)
            if event_file is not None and event_file.topic == topic:
                found[file] = event_file[1:]
        return found

    def _look(self, path: Path) -> None:
        if self._store is not None:
            self._store.pull_file(path)

    def _quarantine(self, table: Table) -> Path:
        return self.root / "quarantine" / table.name

    def _rows(self, table: Table) -> int:
        if not self.exists(table.name):
            return 0
        return int(pl.scan_parquet(self.path(table.name)).select(pl.len()).collect().item())

    def _write_table(self, table: Table, tables: Tables) -> None:
        order = ", ".join(f'"{name}"' for name in (*table.order, "_position"))
        erased = self._stage_erased(table, tables)
        with self.replacing(self.path(table.name)) as partial:
            tables.write(
                f"SELECT {columns_sql(table)} FROM {CHECKED} WHERE _reason IS NULL {erased} "  # noqa: S608
                f"ORDER BY {order}",
                partial,
            )

    def _stage_erased(self, table: Table, tables: Tables) -> str:
        """The condition that leaves erased viewers out; empty where there is none."""
        if self._is_erased is None or table.schema.get(USER_COLUMN) != pl.String():
            return ""
        users = tables.frame(f"SELECT DISTINCT {USER_COLUMN} FROM {CHECKED}").to_series()  # noqa: S608
        erased = [user for user in users if user is not None and self._is_erased(user)]
        if not erased:
            return ""
        tables.read("erased_users", pl.DataFrame({"name": erased}))
        return f"AND {USER_COLUMN} NOT IN (SELECT name FROM erased_users)"  # noqa: S608

    def _write_quarantine(self, table: Table, tables: Tables, source: str) -> Path | None:
        bad = f"(SELECT _row AS row, _reason AS reason FROM {CHECKED} WHERE _reason IS NOT NULL)"  # noqa: S608
        digest, count = tables.frame(
            f"SELECT bit_xor(hash(row, reason)) AS digest, count(*) AS rows FROM {bad} AS c"  # noqa: S608
        ).row(0)
        if not count:
            return None
        target = self._quarantine(table) / f"{digest % (1 << 64):016x}.parquet"
        with self.replacing(target) as partial:
            tables.write(
                f"SELECT row, reason, {source} AS source, now() AS quarantined_at FROM {bad} AS c",  # noqa: S608
                partial,
            )
        return target


def _read_once(path: Path) -> pl.DataFrame:
    # Polars opens a path more than once: footer and pages could be of two different files
    return pl.read_parquet(path.read_bytes())


@contextmanager
def _source_errors(name: str) -> Iterator[None]:
    import duckdb  # noqa: PLC0415 (as in connect)

    try:
        yield
    except duckdb.Error as error:
        text = str(error)
        if isinstance(error, duckdb.OutOfMemoryException) or any(w in text.lower() for w in _FULL):
            message = f"no room to check table {name}: {text}"
            raise EngineUnavailableError(message) from error
        message = f"table {name}: the source cannot be read: {text}"
        raise SourceFormatError(message) from error


@contextmanager
def _disk_errors(what: str) -> Iterator[None]:
    import duckdb  # noqa: PLC0415 (as in connect)

    try:
        yield
    except (OSError, duckdb.Error, pl.exceptions.PolarsError) as error:
        message = f"{what} cannot be written, the last good data stays: {error}"
        raise EngineUnavailableError(message) from error
