"""What runs pipelines: the one place that opens a runner by URL."""

# Airflow's environment holds this package and nothing else of the house, for the shapes: what
# needs the house is imported when it is asked for.
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from movie_mlops.orchestration.airflow import AirflowRunner as AirflowRunner
    from movie_mlops.orchestration.base import PipelineRunner
    from movie_mlops.orchestration.inprocess import InProcessRunner as InProcessRunner

__all__ = ["open_airflow", "open_local_runner", "open_runner"]


def open_local_runner(runs: Path, environment: Mapping[str, str]) -> "InProcessRunner":
    """What executes steps here; its records lie in `runs`, its children see `environment`."""
    from movie_mlops.orchestration.inprocess import InProcessRunner  # noqa: PLC0415 (see above)

    return InProcessRunner(runs, environment)


def open_airflow(url: str, username: str, password: str | None) -> "AirflowRunner":
    """The Airflow at `url`; see there."""
    from movie_mlops.orchestration.airflow import AirflowRunner  # noqa: PLC0415 (see above)

    return AirflowRunner(url, username, password)


def open_runner(
    url: str, local: "InProcessRunner", username: str = "", password: str | None = None
) -> "PipelineRunner":
    """The runner that the URL names: `local` itself, or Airflow where this user logs in.

    Raises:
        ConfigurationError: unknown scheme, or no password for Airflow.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "inprocess":
        return local
    if scheme in ("airflow+http", "airflow+https"):
        return open_airflow(f"{scheme.removeprefix('airflow+')}:{rest}", username, password)
    from movie_mlops.domain.errors import ConfigurationError  # noqa: PLC0415 (see above)

    message = (
        f"MOVIE_MLOPS_RUNNER_URL={url}: no runner has this scheme; "
        "use inprocess: or airflow+http://HOST:PORT"
    )
    raise ConfigurationError(message)
