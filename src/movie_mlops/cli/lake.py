"""`lake`: the tables of a home whose lake is an object store."""

from pathlib import Path

import click


@click.group()
def lake() -> None:
    """The tables in an object store (`MOVIE_MLOPS_LAKE_URL=s3://BUCKET/PREFIX`)."""


@lake.command()
@click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")
def pull(home: Path | None) -> None:
    """Make data/ as in the store, for readers that ask no store: notebooks, other tools."""
    from movie_mlops.bootstrap import build_services
    from movie_mlops.settings import load_settings

    settings = load_settings(home)
    if not settings.lake_is_remote:
        click.echo(f"the tables lie in {settings.lake_folder} itself; nothing to bring")
        return
    build_services(settings).lake.pull()
    click.echo(f"{settings.lake_folder} is as {settings.lake_url}")
