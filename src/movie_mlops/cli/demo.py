"""`demo`: the story in a fresh home, printed as it happens: a click, drift, a better model."""

import secrets
import shutil
import tempfile
from pathlib import Path

import click

from movie_mlops.domain.errors import ConfigurationError


@click.command()
@click.option("--home", type=click.Path(path_type=Path), help="An empty folder for its data.")
@click.option("--keep", is_flag=True, help="Leave the temporary home for a look afterwards.")
@click.option(
    "--events-url",
    help="The event log, e.g. kafka://127.0.0.1:9092.  [default: SQLite in the home]",
)
def demo(home: Path | None, keep: bool, events_url: str | None) -> None:
    """From a click to a better model, without a person; then two bad ones that do not get in.

    Everything runs as in `up`: an API process and a worker on a free port, with real pipelines,
    events and verdicts. Only the people are simulated. Takes under three minutes.
    """
    folder = home or Path(tempfile.mkdtemp(prefix="movie-mlops-demo-"))
    _tell(folder, events_url)  # where it fails the folder stays: its logs say why
    if home is not None or keep:
        click.echo(f"kept: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _tell(home: Path, events_url: str | None) -> None:
    from movie_mlops.cli.demo_house import DemoHouse, demo_settings
    from movie_mlops.cli.demo_story import Story
    from movie_mlops.settings import turn_off_telemetry

    if (home / "data").exists() or (home / "var").exists():
        message = f"{home} is not empty: the demo begins from nothing; name another folder"
        raise ConfigurationError(message)
    home.mkdir(parents=True, exist_ok=True)
    turn_off_telemetry()
    chosen = {} if events_url is None else {"events_url": _own_topics(events_url)}
    with DemoHouse(demo_settings(home.absolute(), **chosen)) as house:
        Story(house).tell()


def _own_topics(events_url: str) -> str:
    """A cluster that others use too gets topics of this demo's own."""
    scheme, _, rest = events_url.partition("://")
    if scheme == "kafka" and "/" not in rest:
        return f"{events_url}/demo-{secrets.token_hex(3)}."
    return events_url
