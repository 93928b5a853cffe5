"""`quarantine`: the rows that broke a table's contract, why, and another try for them."""

import json
from pathlib import Path

import click

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")


@click.group()
def quarantine() -> None:
    """Rows that were refused: list them with their reasons, replay them."""


@quarantine.command("list")
@_HOME
@click.option("--limit", default=20, show_default=True, help="Rows to show, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(home: Path | None, limit: int, as_json: bool) -> None:
    """Refused rows with table, reason and source."""
    import polars as pl

    from movie_mlops.bootstrap import build_services
    from movie_mlops.settings import load_settings

    lake = build_services(load_settings(home)).lake
    lake.pull("quarantine")
    folder = lake.root / "quarantine"
    frames = [
        pl.read_parquet(path).with_columns(table=pl.lit(path.parent.name))
        for path in sorted(folder.glob("*/*.parquet"))
    ]
    rows = pl.concat(frames) if frames else pl.DataFrame()
    shown = rows.sort("quarantined_at", descending=True).head(limit).to_dicts() if frames else []
    if as_json:
        click.echo(json.dumps(shown, default=str))
        return
    for row in shown:
        click.echo(f"{row['table']:<14} {row['reason']:<40} {row['row'][:120]}")
    click.echo(f"{len(rows):,} rows in quarantine")


@quarantine.command()
@click.argument("table")
@_HOME
def replay(table: str, home: Path | None) -> None:
    """Check the quarantined rows of TABLE again; those that pass now join the table."""
    from movie_mlops.bootstrap import build_services
    from movie_mlops.data.tables import TABLES
    from movie_mlops.orchestration.lock import writer_lock
    from movie_mlops.settings import load_settings

    if table not in TABLES:
        raise click.BadParameter(f"there is no table {table!r}; there are {', '.join(TABLES)}")
    settings = load_settings(home)
    with writer_lock(settings.home / "var" / "run.lock", "movie-mlops quarantine replay"):
        report = build_services(settings).lake.replay_quarantine(TABLES[table])
    click.echo(f"{report.rows_out:,} of {report.rows_in:,} rows joined {table}; the rest stays")
