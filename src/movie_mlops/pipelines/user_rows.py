"""One viewer's rows taken out of Parquet files: tables, events, quarantine, features, snapshots."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from movie_mlops.data.event_files import event_file_of
from movie_mlops.data.files import holding, replacing
from movie_mlops.data.lake import Lake
from movie_mlops.domain.errors import EngineUnavailableError

_COLUMN = "user_id"
_QUARANTINE = "quarantine"
Replacing = Callable[[Path], AbstractContextManager[Path]]


@dataclass(frozen=True, slots=True)
class UserRows:
    """Whose rows; of events those before `ends` (`topic:partition` to offset)."""

    user_id: str
    ends: Mapping[str, int]

    def drop_from_lake(self, lake: Lake) -> dict[str, int]:
        """Take them out of every Parquet file of the lake; table or folder to how many.

        Raises:
            EngineUnavailableError: the disk is full or does not write.
        """
        counts: dict[str, int] = {}
        with holding(lake.root):  # events are written by another process
            lake.pull()
            for path in sorted(lake.root.rglob("*.parquet")):
                where = path.relative_to(lake.root).parts
                name = where[0] if where[0] == _QUARANTINE else path.stem
                if event_file_of(path.name) is not None:
                    name = "events"
                gone = self.drop(str(Path(*where)), path, path, lake.replacing)
                counts[name] = counts.get(name, 0) + gone
        return {name: gone for name, gone in counts.items() if gone}

    def drop_from_folder(self, folder: Path) -> int:
        """Take them out of every Parquet file below a folder; how many."""
        return sum(self.drop(path.name, path, path) for path in folder.rglob("*.parquet"))

    def drop(self, name: str, source: Path, target: Path, replacing: Replacing = replacing) -> int:
        """Write a file without them to `target` (may be `source`); how many there were.

        `name` is the file's path in its table folder or lake. Without such a row nothing is
        written. `replacing` writes the target.
        """
        if not name.endswith(".parquet"):
            return 0
        mine = self._mine(name, source)
        if mine is None:
            return 0
        rows = pl.scan_parquet(source, glob=False)
        mine = mine.fill_null(value=False)
        gone = int(rows.select(mine.sum()).collect(engine="streaming").item())
        if gone:
            try:
                with replacing(target) as partial:
                    rows.filter(~mine).sink_parquet(partial)
            except (OSError, pl.exceptions.PolarsError) as error:
                message = f"{name} cannot be written, it stays as it was: {error}"
                raise EngineUnavailableError(message) from error
        return gone

    def _mine(self, name: str, source: Path) -> pl.Expr | None:
        schema = pl.read_parquet_schema(source)
        if name.startswith(_QUARANTINE) and "row" in schema:
            return pl.col("row").str.json_path_match(f"$.{_COLUMN}") == self.user_id
        if schema.get(_COLUMN) != pl.String():
            return None
        mine = pl.col(_COLUMN) == self.user_id
        place = event_file_of(Path(name).name)
        if place is not None:
            mine &= pl.col("offset") < self.ends.get(f"{place.topic}:{place.partition}", 0)
        return mine
