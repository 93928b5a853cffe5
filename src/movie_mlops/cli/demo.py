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
@click.option(
    "--engines",
    type=click.Choice(["embedded", "real"]),
    default="embedded",
    help="real: Kafka, Redis, Feast's server, MLflow on PostgreSQL, Airflow, Prometheus.",
)
@click.option(
    "--kafka-home",
    type=click.Path(path_type=Path),
    envvar="KAFKA_HOME",
    help="Where Apache Kafka lies, for real engines.  [environment: KAFKA_HOME]",
)
def demo(
    home: Path | None,
    keep: bool,
    events_url: str | None,
    engines: str,
    kafka_home: Path | None,
) -> None:
    """From a click to a better model, without a person; then two bad ones that do not get in.

    Everything runs as in `up`: an API process and a worker on a free port, with real pipelines,
    events and verdicts. Only the people are simulated. Takes under three minutes; on real engines,
    which `movie-mlops stack` starts on free ports and stops again, several more.
    """
    folder = home or Path(tempfile.mkdtemp(prefix="movie-mlops-demo-"))
    # where it fails the folder stays: its logs say why
    if engines == "real":
        if events_url is not None:
            raise click.UsageError("--engines real starts a Kafka of its own: no --events-url")
        _tell_on_real_engines(folder, kafka_home)
    else:
        _tell(folder, events_url)
    if home is not None or keep:
        click.echo(f"kept: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _tell(home: Path, events_url: str | None) -> None:
    from movie_mlops.cli.demo_house import DemoHouse, demo_settings
    from movie_mlops.cli.demo_story import Story

    _prepare(home)
    chosen = {} if events_url is None else {"events_url": _own_topics(events_url)}
    with DemoHouse(demo_settings(home.absolute(), **chosen)) as house:
        Story(house).tell()


def _tell_on_real_engines(home: Path, kafka_home: Path | None) -> None:
    from movie_mlops.cli.demo_engines import RealStory, real_house, tell_progress

    _prepare(home)
    home.chmod(0o755)  # PostgreSQL runs as its own user, and reaches its folder through this one
    with real_house(home.absolute(), kafka_home, tell_progress) as (house, stack):
        RealStory(house, stack).tell()


def _prepare(home: Path) -> None:
    """A new folder.

    Raises:
        ConfigurationError: it is not empty.
    """
    from movie_mlops.settings import turn_off_telemetry

    if (home / "data").exists() or (home / "var").exists():
        message = f"{home} is not empty: the demo begins from nothing; name another folder"
        raise ConfigurationError(message)
    home.mkdir(parents=True, exist_ok=True)
    turn_off_telemetry()


def _own_topics(events_url: str) -> str:
    """A cluster that others use too gets topics of this demo's own."""
    scheme, _, rest = events_url.partition("://")
    if scheme == "kafka" and "/" not in rest:
        return f"{events_url}/demo-{secrets.token_hex(3)}."
    return events_url
