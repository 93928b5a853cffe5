import json
from pathlib import Path

import duckdb
from click.testing import CliRunner

from movie_mlops.cli.quarantine import quarantine
from movie_mlops.data.lake import Lake
from movie_mlops.data.tables import WATCH_LOG


def test_refused_rows_are_shown_and_join_when_they_pass(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "data")
    rows = [f"({user}, 1, 60, 7.0, 1.0)" for user in range(9)] + ["(9, 1, 9999, 7.0, 1.0)"]
    with lake.connect() as connection:
        connection.execute(
            "CREATE TEMP TABLE raw_watch_log AS SELECT * FROM (VALUES "  # noqa: S608 (our own rows)
            f"{', '.join(rows)}) AS t(user_id, content_id, watch_seconds, rating, popularity)"
        )
        assert lake.replace(WATCH_LOG, connection).quarantined_rows == 1
    runner = CliRunner()
    home = ["--home", str(tmp_path)]
    (row,) = json.loads(runner.invoke(quarantine, ["list", "--json", *home]).output)
    assert (row["table"], row["reason"]) == ("watch_log", "watch_seconds outside 0-7200")
    assert runner.invoke(quarantine, ["replay", "watch_log", *home]).output.startswith(
        "0 of 1 rows"
    )
    (path,) = (tmp_path / "data" / "quarantine" / "watch_log").iterdir()
    duckdb.sql(
        f"COPY (SELECT replace(row, '9999', '999') AS row, reason, source, quarantined_at "  # noqa: S608
        f"FROM read_parquet('{path}')) TO '{path}.mended' (FORMAT parquet)"
    )
    Path(f"{path}.mended").rename(path)
    assert runner.invoke(quarantine, ["replay", "watch_log", *home]).output.startswith(
        "1 of 1 rows"
    )
    assert len(lake.read("watch_log")) == 10
    assert runner.invoke(quarantine, ["replay", "no_such", *home]).exit_code == 2
