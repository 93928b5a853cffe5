"""The port of every source of films: fetch raw files, then stage them as loose rows."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import duckdb


Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how much is done, and of how much (None: unknown)."""


def no_progress(what: str, done: int, total: int | None) -> None:
    """Show nothing."""


class Crawler(Protocol):
    """One source. Raw files stay as the source sent them; rows are checked later, by the lake."""

    source: str

    def fetch(self, raw: Path, progress: Progress) -> None:
        """Bring the source's files into the folder `raw`.

        Calling again continues what was stopped and leaves out what has not changed. A file
        appears under its name only when it is complete.

        Raises:
            CrawlError: the source cannot be reached, refuses, or sends what is no data.
        """
        ...

    def stage(self, raw: Path, connection: "duckdb.DuckDBPyConnection") -> tuple[str, ...]:
        """Create a view `raw_<table>` over the raw files for each table the source fills.

        Views have the table's column names; types are loose (text is fine): the lake casts and
        checks. Files are streamed, never loaded whole. Returns the table names.

        Raises:
            SourceFormatError: a file is missing, truncated, empty, or lacks a column.
        """
        ...
